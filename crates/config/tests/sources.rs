//! Precedence, origins, mounted secrets, unknown names, and what is never printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod common;

use std::collections::BTreeMap;

use common::{DEVELOPMENT, NOW, PRODUCTION, SECRET, env, faults, loaded, with_file};
use edgeward_config::{
    EffectiveRow, Kek, LocalFiles, Origin, OwnerKeys, Profile, SecretText, Sources, load,
};

fn row(sources: &Sources, setting: &str) -> EffectiveRow {
    loaded(sources).effective.into_iter().find(|row| row.setting == setting).expect("a row")
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let mut sources = with_file(
        env(DEVELOPMENT, &[("EDGE_AUDIENCE", "from-environment")]),
        "[edge]\naudience = \"from-file\"\nlog_filter = \"debug\"\n",
    );
    let audience = |sources: &Sources| loaded(sources).config.audience;
    sources.flags.insert("EDGE_AUDIENCE".into(), "from-flag".into());
    assert_eq!(audience(&sources), "from-flag");
    assert_eq!(row(&sources, "EDGE_AUDIENCE").origin, Origin::Flag);
    sources.flags.clear();
    assert_eq!(audience(&sources), "from-environment");
    assert_eq!(row(&sources, "EDGE_AUDIENCE").origin, Origin::Environment);
    sources.env.clear();
    assert_eq!(audience(&sources), "from-file");
    assert_eq!(row(&sources, "EDGE_AUDIENCE").origin, Origin::File("edgeward.toml".into()));
    sources.file = None;
    assert_eq!(audience(&sources), "edgeward");
    assert_eq!(row(&sources, "EDGE_AUDIENCE").origin, Origin::ProfileDefault(Profile::Development));
    assert_eq!(row(&sources, "EDGE_LISTEN").origin, Origin::Default);
}

#[test]
fn the_file_says_everything_that_the_environment_can() {
    let text = "
        [edge]
        verify_jwt = false
        allow_body_signature = 2026-12-01
        trusted_proxies = [\"10.0.0.0/8\", \"fd00::1\"]
        ip_allowlist = []
        [agent]
        session_ttl_ms = \"5m\"
        ratelimit_burst = 7
        [owner]
        jwt_secret = \"01234567890123456789012345678901\"
        scopes = [\"llm:chat\", \"llm:embed\"]
    ";
    let config = loaded(&with_file(env(DEVELOPMENT, &[]), text)).config;
    assert!(!config.auth.verify_jwt);
    assert_eq!(config.trusted_proxies.len(), 2);
    assert!(config.ip_allowlist.is_empty());
    assert_eq!(config.agent.session_ttl_ms, 300_000);
    assert_eq!(config.agent.ratelimit_burst, 7);
    assert_eq!(config.owner.scopes, ["llm:chat", "llm:embed"]);
    assert!(matches!(config.owner.source, Some(OwnerKeys::Hs256Secret(_))));
}

#[test]
fn the_settings_file_is_the_one_that_edge_config_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.toml");
    std::fs::write(&path, "[edge]\naudience = \"here\"\n").unwrap();
    let named = BTreeMap::from([("EDGE_CONFIG".to_owned(), path.to_str().unwrap().to_owned())]);
    let missing = BTreeMap::from([("EDGE_CONFIG".to_owned(), "/not/there".to_owned())]);
    let by_environment = Sources::gather(named.clone(), BTreeMap::new(), &LocalFiles).unwrap();
    assert_eq!(loaded(&by_environment).config.audience, "here");
    let by_flag = Sources::gather(missing.clone(), named, &LocalFiles).unwrap();
    assert_eq!(loaded(&by_flag).config.audience, "here");
    let fault = Sources::gather(missing, BTreeMap::new(), &LocalFiles).unwrap_err();
    assert_eq!(fault.findings()[0].setting, "EDGE_CONFIG");
}

#[test]
fn a_secret_can_come_from_a_mounted_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let name = path.to_str().unwrap();
    for text in [SECRET.to_owned(), format!("{SECRET}\n"), format!("{SECRET}\r\n")] {
        std::fs::write(&path, text).unwrap();
        let by_file = format!("[owner]\njwt_secret_file = {name:?}\n");
        for sources in [
            env(DEVELOPMENT, &[("OWNER_JWT_SECRET_FILE", name)]),
            with_file(env(DEVELOPMENT, &[]), &by_file),
        ] {
            let config = loaded(&sources).config;
            assert_eq!(
                config.owner.source,
                Some(OwnerKeys::Hs256Secret(SecretText::new(SECRET.into())))
            );
            assert_eq!(row(&sources, "OWNER_JWT_SECRET").origin, Origin::SecretFile(path.clone()));
        }
    }
    let both = env(DEVELOPMENT, &[("OWNER_JWT_SECRET", SECRET), ("OWNER_JWT_SECRET_FILE", name)]);
    assert_eq!(faults(&both)[0].setting, "OWNER_JWT_SECRET");
    let nowhere = env(DEVELOPMENT, &[("OWNER_JWT_SECRET_FILE", "/not/there")]);
    assert_eq!(faults(&nowhere)[0].setting, "OWNER_JWT_SECRET_FILE");
    assert_eq!(faults(&nowhere).len(), 1);
}

#[test]
fn only_secrets_have_a_file_variant() {
    let fault = &faults(&env(DEVELOPMENT, &[("EDGE_AUDIENCE_FILE", "/x")]))[0];
    assert_eq!(fault.setting, "EDGE_AUDIENCE_FILE");
}

#[test]
fn the_key_may_be_in_any_variable() {
    let sources = env(DEVELOPMENT, &[("EDGE_KEK", "env:EDGE_WRAPPING"), ("EDGE_WRAPPING", SECRET)]);
    let expected = Kek::Env { name: "EDGE_WRAPPING".into(), value: SecretText::new(SECRET.into()) };
    assert_eq!(loaded(&sources).config.kek, expected);
}

#[test]
fn an_unknown_name_is_a_fault_that_names_the_nearest() {
    for (name, nearest) in [
        ("EDGE_LISTNE", "EDGE_LISTEN"),
        ("EDGE_VERFY_JWT", "EDGE_VERIFY_JWT"),
        ("AGENT_HMAC_WINDOW", "AGENT_HMAC_WINDOW_MS"),
        ("OWNER_JWT_SECRETS", "OWNER_JWT_SECRET"),
        ("OWNER_JWT_SECRET_FIL", "OWNER_JWT_SECRET_FILE"),
    ] {
        let mut by_flag = env(DEVELOPMENT, &[]);
        by_flag.flags.insert(name.into(), "x".into());
        for sources in [env(DEVELOPMENT, &[(name, "x")]), by_flag] {
            let faults = faults(&sources);
            assert_eq!((faults.len(), faults[0].setting.as_str()), (1, name));
            assert!(faults[0].what_to_do.contains(&format!("`{nearest}`")), "{}", faults[0]);
        }
    }
    for (text, key, nearest) in [
        ("[edge]\nlisten_adress = 1", "edge.listen_adress", "edge.admin_listen"),
        ("[agent]\nhmac_window = 1", "agent.hmac_window", "agent.hmac_window_ms"),
        ("[ownr]\nx = 1", "ownr", "owner"),
        ("[[route]]\nx = 1", "route", "routes"),
        ("[edge]\nconfig = \"x\"", "edge.config", "edge.log"),
    ] {
        let faults = faults(&with_file(env(DEVELOPMENT, &[]), text));
        assert_eq!((faults.len(), faults[0].setting.as_str()), (1, key));
        assert!(faults[0].what_to_do.contains('`'), "{}", faults[0]);
        if key != "edge.config" && key != "edge.listen_adress" {
            assert!(faults[0].what_to_do.contains(&format!("`{nearest}`")), "{}", faults[0]);
        }
    }
    let retired = faults(&with_file(env(DEVELOPMENT, &[]), "[edge]\ndev_no_auth = true"));
    assert_eq!(retired[0].setting, "EDGE_DEV_NO_AUTH");
}

#[test]
fn ten_faults_of_a_file_are_ten_findings_in_one_message() {
    let text = "
        [edge]
        verify_jwt = \"maybe\"
        base_path = \"x/\"
        listen = \"nowhere\"
        jwt_algo = \"none\"
        trusted_proxies = [\"0.0.0.0/0\"]
        [agent]
        nonce_ttl_ms = 5000
        max_streams = 1.5
        [owner]
        jwt_secret = \"short\"
        [[routes]]
        match = \"v1\"
        upstream = [\"http://127.0.0.1:9000\"]
        [[routes]]
        match = \"/v2/\"
        upstream = [\"ftp://127.0.0.1:9000\"]
    ";
    let sources = with_file(env(DEVELOPMENT, &[]), text);
    let settings: Vec<_> = faults(&sources).into_iter().map(|fault| fault.setting).collect();
    for expected in [
        "EDGE_VERIFY_JWT",
        "EDGE_BASE_PATH",
        "EDGE_LISTEN",
        "edge.jwt_algo",
        "EDGE_TRUSTED_PROXIES",
        "AGENT_NONCE_TTL_MS",
        "AGENT_MAX_STREAMS",
        "OWNER_JWT_SECRET",
        "routes[0].match",
        "routes[1].upstream[0]",
    ] {
        assert_eq!(
            settings.iter().filter(|setting| *setting == expected).count(),
            1,
            "{expected}: {settings:?}"
        );
    }
    assert_eq!(settings.len(), 10);
    let message = load(&sources, NOW).unwrap_err().to_string();
    assert!(message.starts_with("10 faults") && message.contains("\n  10. "), "{message}");
}

#[test]
fn a_syntax_error_says_where_and_hides_no_fault_of_the_environment() {
    let text = format!("[owner]\njwt_secret = \"{SECRET}\" oops\n");
    let faults = faults(&with_file(env(DEVELOPMENT, &[("EDGE_LOG", "xml")]), &text));
    let settings: Vec<_> = faults.iter().map(|fault| fault.setting.as_str()).collect();
    assert_eq!(settings, ["EDGE_CONFIG", "EDGE_LOG"]);
    assert!(faults[0].found.contains("line 2"), "{}", faults[0]);
    assert!(!faults[0].to_string().contains(SECRET));
}

#[test]
fn no_secret_is_printed_when_all_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "mounted-SECRET-value").unwrap();
    let text = format!(
        "[[routes]]\nmatch = \"/v1/\"\nupstream = [\"http://127.0.0.1:9000\"]\nset_headers = {{ apikey = {{ file = {:?} }}, x-key = {{ value = \"inline-SECRET-value\" }} }}\n",
        path.to_str().unwrap()
    );
    let added = [
        ("OWNER_JWT_SECRET", SECRET),
        (
            "EDGE_DATABASE_URL",
            "postgres://edge:db-SECRET-value@127.0.0.1/edge?sslkey=k-SECRET-value",
        ),
        ("EDGE_DATABASE_LISTEN_URL", "postgres://edge:db-SECRET-value@db/edge"),
        (
            "EDGE_REDIS_URL",
            "redis-sentinel://edge:redis-SECRET-value@s1,s2/main?sentinel_user=w&sentinel_password=s-SECRET-value",
        ),
    ];
    let mut sources = with_file(env(PRODUCTION, &added), &text);
    sources.env.remove("OWNER_JWKS_URL");
    let loaded = loaded(&sources);
    let printed = [
        format!("{loaded:?} {:?} {sources:?}", loaded.config),
        serde_json::to_string(&loaded.effective).unwrap(),
        serde_json::to_string(&loaded.warnings).unwrap(),
    ];
    for text in &printed {
        assert!(!text.contains(SECRET) && !text.contains("SECRET-value"), "{text}");
    }
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert_eq!(row(&sources, "OWNER_JWT_SECRET").value, "***");
    assert_eq!(row(&sources, "EDGE_KEK").value, "env:WRAPPING_KEY");
    let exposed: Vec<_> =
        loaded.config.routes[0].set_headers.iter().map(|(_, value)| value.expose()).collect();
    assert_eq!(exposed, ["mounted-SECRET-value", "inline-SECRET-value"]);
}

#[test]
fn no_secret_is_printed_in_a_fault() {
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----";
    for (name, value) in [
        ("OWNER_JWT_SECRET", "hunter2"),
        ("EDGE_KEK", "hunter2"),
        ("EDGE_KEK", "base64:hunter2"),
        ("EDGE_KEK", "vault:hunter2"),
        ("EDGE_KEK", "env:hunter2+"),
        ("EDGE_DATABASE_URL", "postgres://edge:hunter2@db:x/edge"),
        ("EDGE_DATABASE_URL", "postgres://db/edge?password=hunter2"),
        ("EDGE_DATABASE_URL", "edge:hunter2@db"),
        ("EDGE_DATABASE_URL", "postgres://edge:hunter2@db"),
        ("EDGE_DATABASE_URL", "postgres://edge:hunter2/x@db/edge"),
        ("EDGE_DATABASE_URL", "postgres://edge:hunter2%@db/edge"),
        ("EDGE_DATABASE_URL", "postgres://db/hunter2"),
        ("EDGE_DATABASE_URL", "mysql://edge:hunter2@db/edge"),
        ("EDGE_DATABASE_LISTEN_URL", "postgres://edge:hunter2@db/edge?pgbouncer=hunter2"),
        ("EDGE_DATABASE_LISTEN_URL", "hunter2"),
        ("EDGE_REDIS_URL", "rediss://:hunter2@cache/x"),
        ("EDGE_REDIS_URL", "redis://hunter2@cache"),
        ("EDGE_REDIS_URL", "redis://edge:a@hunter2@cache"),
        ("EDGE_REDIS_URL", "redis-sentinel://s/m?sentinel_password=hunter2&x=y"),
        ("EDGE_REDIS_URL", "redis-cluster://:hunter2@a,b/1"),
        ("EDGE_REDIS_URL", "hunter2"),
        ("EDGE_PUBLIC_URL", "https://me:hunter2@edge.example"),
        ("OWNER_JWKS_URL", "https://me:hunter2@id.example"),
        ("EDGE_OTLP_ENDPOINT", "https://me:hunter2@otlp.example"),
        ("EDGE_TLS_KEY", PEM),
        ("EDGE_SECERT", "hunter2"),
        ("EDGE_DEV_NO_AUTH", "hunter2"),
    ] {
        let faults = load(&env(DEVELOPMENT, &[(name, value)]), NOW).unwrap_err();
        let json = serde_json::to_string(faults.findings()).unwrap();
        for text in [faults.to_string(), format!("{faults:?}"), json] {
            assert!(!text.contains("hunter2"), "{name}: {text}");
        }
    }
    for text in [
        "[owner]\njwt_secret = [\"hunter2\", 1]",
        "[owner]\njwt_secert = \"hunter2\"",
        "[[routes]]\nmatch = \"/\"\nupstream = [\"http://me:hunter2@x\"]",
        "[[routes]]\nmatch = \"/\"\nupstream = [\"http://x\"]\nset_headers = { apikey = \"hunter2\" }",
        "[[routes]]\nmatch = \"/\"\nupstream = [\"http://x\"]\nset_headers = { apikey = { value = \"hunter2\\n\" } }",
        "[[routes]]\nmatch = \"/\"\nupstream = [\"http://x\"]\nset_headers = { apikey = { valeu = \"hunter2\" } }",
        "[[routes]]\nmatch = \"/\"\nupstream = [\"http://x\"]\nset_headers = { host = { value = \"hunter2\" } }",
    ] {
        let faults = load(&with_file(env(DEVELOPMENT, &[]), text), NOW).unwrap_err();
        assert!(!format!("{faults} {faults:?}").contains("hunter2"), "{faults}");
    }
}

#[test]
fn a_list_in_the_file_holds_one_thing_per_item() {
    for text in
        ["[owner]\nscopes = [\"a,b\"]", "[owner]\nscopes = [1]", "[edge]\nlisten = { port = 1 }"]
    {
        assert_eq!(faults(&with_file(env(DEVELOPMENT, &[]), text)).len(), 1, "{text}");
    }
}
