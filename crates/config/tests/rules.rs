//! Each rule, by settings that are fine but for one thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod common;

use common::{DEVELOPMENT, NOW, PRODUCTION, SECRET, env, faults, loaded, of};
use edgeward_config::{
    BodySignature, Database, DeviceProof, JwtAlg, Kek, Level, LogFormat, OwnerKeys, Profile, judge,
};

use Level::{Error, Warning};
use Profile::{Development, Production};

#[test]
fn there_is_nothing_to_say_about_the_settings_that_these_tests_start_from() {
    assert_eq!(judge(&env(DEVELOPMENT, &[]), None, NOW), []);
    assert_eq!(judge(&env(PRODUCTION, &[]), None, NOW), []);
}

/// Profile, what is added, and the one finding that it makes.
type Case = (Profile, &'static [(&'static str, &'static str)], &'static str, Level);

const CASES: &[Case] = &[
    (Production, &[("EDGE_VERIFY_JWT", "false")], "EDGE_VERIFY_JWT", Error),
    (Production, &[("EDGE_REQUIRE_HMAC", "false")], "EDGE_REQUIRE_HMAC", Error),
    (Production, &[("EDGE_ALLOW_HEADER_SECRET", "true")], "EDGE_ALLOW_HEADER_SECRET", Error),
    (Production, &[("EDGE_ALLOW_BODY_SIGNATURE", "true")], "EDGE_ALLOW_BODY_SIGNATURE", Error),
    (
        Production,
        &[("EDGE_ALLOW_BODY_SIGNATURE", "2027-02-22")],
        "EDGE_ALLOW_BODY_SIGNATURE",
        Warning,
    ),
    (
        Production,
        &[("EDGE_ALLOW_BODY_SIGNATURE", "2027-02-23")],
        "EDGE_ALLOW_BODY_SIGNATURE",
        Error,
    ),
    (
        Production,
        &[("EDGE_ALLOW_BODY_SIGNATURE", "2026-11-01")],
        "EDGE_ALLOW_BODY_SIGNATURE",
        Warning,
    ),
    (Development, &[("EDGE_ALLOW_BODY_SIGNATURE", "soon")], "EDGE_ALLOW_BODY_SIGNATURE", Error),
    (
        Development,
        &[("EDGE_ALLOW_BODY_SIGNATURE", "2027-02-23")],
        "EDGE_ALLOW_BODY_SIGNATURE",
        Error,
    ),
    (
        Development,
        &[("EDGE_REQUIRE_HMAC", "false"), ("EDGE_VERIFY_JWT", "false")],
        "EDGE_REQUIRE_HMAC, EDGE_VERIFY_JWT",
        Error,
    ),
    (Production, &[("AGENT_SESSION_REQUIRED", "false")], "AGENT_SESSION_REQUIRED", Warning),
    (Production, &[("AGENT_REQUIRE_NONCE", "false")], "AGENT_REQUIRE_NONCE", Warning),
    (Production, &[("AGENT_DEVICE_PROOF", "rotation")], "AGENT_DEVICE_PROOF", Warning),
    (
        Development,
        &[("AGENT_HMAC_WINDOW_MS", "4999"), ("AGENT_HMAC_AHEAD_MS", "1000")],
        "AGENT_HMAC_WINDOW_MS",
        Error,
    ),
    (Development, &[("AGENT_HMAC_WINDOW_MS", "300001")], "AGENT_HMAC_WINDOW_MS", Error),
    (Development, &[("AGENT_HMAC_WINDOW_MS", "29999")], "AGENT_HMAC_WINDOW_MS", Warning),
    (
        Development,
        &[("AGENT_HMAC_WINDOW_MS", "120001"), ("AGENT_NONCE_TTL_MS", "5m")],
        "AGENT_HMAC_WINDOW_MS",
        Warning,
    ),
    (
        Development,
        &[("AGENT_HMAC_AHEAD_MS", "60001"), ("AGENT_NONCE_TTL_MS", "5m")],
        "AGENT_HMAC_AHEAD_MS",
        Error,
    ),
    (Development, &[("AGENT_NONCE_TTL_MS", "65999")], "AGENT_NONCE_TTL_MS", Error),
    (Production, &[("AGENT_NONCE_TTL_MS", "65999")], "AGENT_NONCE_TTL_MS", Error),
    (Development, &[("AGENT_SESSION_TTL_MS", "59999")], "AGENT_SESSION_TTL_MS", Error),
    (Development, &[("AGENT_SESSION_TTL_MS", "86400001")], "AGENT_SESSION_TTL_MS", Error),
    (Development, &[("AGENT_SESSION_MAX_MS", "599999")], "AGENT_SESSION_TTL_MS", Error),
    (Development, &[("AGENT_JWT_TTL_MS", "86400001")], "AGENT_JWT_TTL_MS", Error),
    (Development, &[("AGENT_SECRET_GRACE_MS", "90d")], "AGENT_SECRET_GRACE_MS", Error),
    (Development, &[("AGENT_RATELIMIT_PER_SEC", "0")], "AGENT_RATELIMIT_PER_SEC", Error),
    (Development, &[("AGENT_RATELIMIT_BURST", "0")], "AGENT_RATELIMIT_BURST", Error),
    (Development, &[("AGENT_MAX_STREAMS", "0")], "AGENT_MAX_STREAMS", Error),
    (Development, &[("AGENT_BACKOFF_BASE_MS", "900001")], "AGENT_BACKOFF_BASE_MS", Error),
    (Development, &[("AGENT_POLICY_STALE_MS", "0")], "AGENT_POLICY_STALE_MS", Error),
    (Development, &[("AGENT_REQUIRE_JWT_EVERY_N", "-1")], "AGENT_REQUIRE_JWT_EVERY_N", Error),
    (Development, &[("EDGE_PROFILE", "staging")], "EDGE_PROFILE", Error),
    (Development, &[("EDGE_AUDIENCE", "two words")], "EDGE_AUDIENCE", Error),
    (Development, &[("EDGE_AUDIENCE", "line\nfeed")], "EDGE_AUDIENCE", Error),
    (Development, &[("EDGE_AUDIENCE", "")], "EDGE_AUDIENCE", Error),
    (Development, &[("EDGE_PUBLIC_URL", "ftp://edge.example")], "EDGE_PUBLIC_URL", Error),
    (Development, &[("EDGE_PUBLIC_URL", "https://edge.example/?q")], "EDGE_PUBLIC_URL", Error),
    (Production, &[("EDGE_PUBLIC_URL", "http://edge.example")], "EDGE_PUBLIC_URL", Warning),
    (Development, &[("EDGE_BASE_PATH", "x")], "EDGE_BASE_PATH", Error),
    (Development, &[("EDGE_BASE_PATH", "/x/")], "EDGE_BASE_PATH", Error),
    (Development, &[("EDGE_BASE_PATH", "/")], "EDGE_BASE_PATH", Error),
    (Development, &[("EDGE_BASE_PATH", "/a//b")], "EDGE_BASE_PATH", Error),
    (Development, &[("EDGE_BASE_PATH", "/..")], "EDGE_BASE_PATH", Error),
    (Development, &[("EDGE_BASE_PATH", "/a%20b")], "EDGE_BASE_PATH", Error),
    (Development, &[("EDGE_LISTEN", "localhost")], "EDGE_LISTEN", Error),
    (
        Development,
        &[("EDGE_LISTEN", "0.0.0.0:8600"), ("EDGE_TRUSTED_PROXIES", "10.0.0.1")],
        "EDGE_LISTEN",
        Error,
    ),
    (Production, &[("EDGE_LISTEN", "0.0.0.0:8600")], "EDGE_LISTEN", Error),
    (Production, &[("EDGE_LISTEN", "[::]:8600")], "EDGE_LISTEN", Error),
    (Development, &[("EDGE_ADMIN_LISTEN", "0.0.0.0:8601")], "EDGE_ADMIN_LISTEN", Error),
    (Production, &[("EDGE_ADMIN_LISTEN", "10.0.0.1:8601")], "EDGE_ADMIN_LISTEN", Error),
    (
        Production,
        &[("EDGE_ADMIN_LISTEN", "10.0.0.1:8601"), ("EDGE_TRUSTED_PROXIES", "10.0.0.2")],
        "EDGE_ADMIN_LISTEN",
        Error,
    ),
    (Development, &[("EDGE_ADMIN_LISTEN", "127.0.0.1:8600")], "EDGE_ADMIN_LISTEN", Error),
    (
        Development,
        &[("EDGE_TRUSTED_PROXIES", "10.0.0.0/8,0.0.0.0/0")],
        "EDGE_TRUSTED_PROXIES",
        Error,
    ),
    (Development, &[("EDGE_TRUSTED_PROXIES", "::ffff:0:0/96")], "EDGE_TRUSTED_PROXIES", Error),
    (Development, &[("EDGE_TRUSTED_PROXIES", "::/0")], "EDGE_TRUSTED_PROXIES", Error),
    (Development, &[("EDGE_TRUSTED_PROXIES", "proxy.example")], "EDGE_TRUSTED_PROXIES", Error),
    (Development, &[("EDGE_IP_ALLOWLIST", "10.0.0.1/8")], "EDGE_IP_ALLOWLIST", Error),
    (Development, &[("EDGE_IP_ALLOWLIST", "")], "EDGE_IP_ALLOWLIST", Error),
    (Development, &[("EDGE_DATABASE_URL", "mysql://db")], "EDGE_DATABASE_URL", Error),
    (Development, &[("EDGE_DATABASE_URL", "sqlite::memory:")], "EDGE_DATABASE_URL", Error),
    (Development, &[("EDGE_JWT_ALG", "HS256")], "EDGE_JWT_ALG", Error),
    (Development, &[("EDGE_LOG", "xml")], "EDGE_LOG", Error),
    (Development, &[("EDGE_KEK", "env:NOT_THERE")], "EDGE_KEK", Error),
    (Development, &[("EDGE_KEK", "file:/not/there")], "EDGE_KEK", Error),
    (Development, &[("EDGE_KEK", "0123456789")], "EDGE_KEK", Error),
    (Development, &[("EDGE_KEK_FILE", "/run/kek")], "EDGE_KEK_FILE", Error),
    (Development, &[("OWNER_JWKS_URL", "http://id.example/jwks")], "OWNER_JWKS_URL", Error),
    (Development, &[("OWNER_JWKS_URL", "https://me:pw@id.example/jwks")], "OWNER_JWKS_URL", Error),
    (Development, &[("OWNER_JWKS_FILE", "/not/there")], "OWNER_JWKS_FILE", Error),
    (
        Development,
        &[("OWNER_JWT_SECRET", "0123456789012345678901234567890")],
        "OWNER_JWT_SECRET",
        Error,
    ),
    (
        Development,
        &[("OWNER_JWT_SECRET", SECRET), ("OWNER_JWKS_URL", "https://id.example")],
        "OWNER_JWKS_URL, OWNER_JWKS_FILE, OWNER_JWT_SECRET",
        Error,
    ),
    (Development, &[("OWNER_SCOPES", "a,,b")], "OWNER_SCOPES", Error),
    (Development, &[("OWNER_MAX_AGENTS", "0")], "OWNER_MAX_AGENTS", Error),
    (Development, &[("EDGE_DEV_NO_AUTH", "1")], "EDGE_DEV_NO_AUTH", Error),
    (
        Production,
        &[("EDGE_LISTEN", "0.0.0.0:8600"), ("EDGE_TRUSTED_PROXIES", "none")],
        "EDGE_LISTEN",
        Error,
    ),
    (Development, &[("EDGE_KEK", "env:WRAPPING_KEY"), ("WRAPPING_KEY", "")], "EDGE_KEK", Error),
    // Known by name, of a build to come.
    (Development, &[("EDGE_KEK", "awskms:alias/edge")], "EDGE_KEK", Error),
    (Development, &[("EDGE_KEK", "vault:transit/edge")], "EDGE_KEK", Error),
    (Development, &[("EDGE_OTLP_ENDPOINT", "http://127.0.0.1:4317")], "EDGE_OTLP_ENDPOINT", Error),
];

#[test]
fn each_rule_makes_its_one_finding() {
    for (profile, added, setting, level) in CASES {
        let findings = judge(&env(of(*profile), added), None, NOW);
        let seen: Vec<_> =
            findings.iter().map(|finding| (finding.setting.as_str(), finding.level)).collect();
        assert_eq!(seen, [(*setting, *level)], "{profile} with {added:?}: {findings:#?}");
        assert!(findings.iter().all(|finding| finding.what_to_do.ends_with('.')));
    }
}

#[test]
fn what_production_cannot_do_without() {
    for (missing, setting, level) in [
        ("EDGE_AUDIENCE", "EDGE_AUDIENCE", Error),
        ("EDGE_KEK", "EDGE_KEK", Error),
        ("OWNER_JWKS_URL", "OWNER_JWKS_URL, OWNER_JWKS_FILE, OWNER_JWT_SECRET", Error),
        ("EDGE_PUBLIC_URL", "EDGE_PUBLIC_URL", Warning),
        ("OWNER_ISSUER", "OWNER_ISSUER", Warning),
        ("OWNER_AUDIENCE", "OWNER_AUDIENCE", Warning),
    ] {
        let mut sources = env(PRODUCTION, &[]);
        sources.env.remove(missing);
        let findings = judge(&sources, None, NOW);
        let seen: Vec<_> =
            findings.iter().map(|finding| (finding.setting.as_str(), finding.level)).collect();
        assert_eq!(seen, [(setting, level)], "without {missing}");
    }
}

#[test]
fn values_on_the_edge_of_a_rule_pass() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("x.pem");
    std::fs::write(&pem, "x").unwrap();
    let pem = pem.to_str().unwrap();
    for (profile, added) in [
        (Development, vec![("AGENT_NONCE_TTL_MS", "66000")]),
        (Development, vec![("AGENT_HMAC_AHEAD_MS", "60s"), ("AGENT_NONCE_TTL_MS", "121s")]),
        (Development, vec![("AGENT_HMAC_WINDOW_MS", "30s")]),
        (Development, vec![("AGENT_SESSION_MAX_MS", "10m")]),
        (Development, vec![("EDGE_REQUIRE_HMAC", "false")]),
        (Development, vec![("EDGE_ALLOW_BODY_SIGNATURE", "true")]),
        (Development, vec![("EDGE_LISTEN", "127.0.0.1:0"), ("EDGE_ADMIN_LISTEN", "127.0.0.1:0")]),
        (Development, vec![("EDGE_LISTEN", "[::1]:8600")]),
        (Development, vec![("OWNER_JWKS_URL", "http://127.0.0.1:9/jwks")]),
        (Development, vec![("OWNER_JWT_SECRET", "01234567890123456789012345678901")]),
        (Production, vec![("EDGE_LISTEN", "0.0.0.0:8600"), ("EDGE_TRUSTED_PROXIES", "10.0.0.1")]),
        (
            Production,
            vec![
                ("EDGE_LISTEN", "0.0.0.0:8600"),
                ("EDGE_ADMIN_LISTEN", "[::1]:8601"),
                ("EDGE_TLS_CERT", pem),
                ("EDGE_TLS_KEY", pem),
            ],
        ),
        (Development, vec![("AGENT_GATE_TOKEN", "x"), ("EDGEWARD", "x"), ("PATH", "x")]),
    ] {
        assert_eq!(judge(&env(of(profile), &added), None, NOW), [], "{added:?}");
    }
}

#[test]
fn the_operators_listener_stays_on_loopback_whatever_tls_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("x.pem");
    std::fs::write(&pem, "x").unwrap();
    let pem = pem.to_str().unwrap();
    for profile in [Development, Production] {
        let added =
            [("EDGE_ADMIN_LISTEN", "[::]:8601"), ("EDGE_TLS_CERT", pem), ("EDGE_TLS_KEY", pem)];
        let findings = judge(&env(of(profile), &added), None, NOW);
        let [only] = findings.as_slice() else { panic!("{profile}: {findings:#?}") };
        assert_eq!((only.setting.as_str(), only.level), ("EDGE_ADMIN_LISTEN", Error));
        assert!(only.expected.contains("not supported by this build yet"), "{only:?}");
    }
}

#[test]
fn tls_files_come_in_pairs_and_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("x.pem");
    std::fs::write(&pem, "x").unwrap();
    let pem = pem.to_str().unwrap();
    for (added, setting) in [
        (vec![("EDGE_TLS_CERT", pem)], "EDGE_TLS_KEY"),
        (vec![("EDGE_TLS_KEY", pem)], "EDGE_TLS_CERT"),
        (vec![("EDGE_TLS_CLIENT_CA", pem)], "EDGE_TLS_CERT"),
        (vec![("EDGE_TLS_CERT", pem), ("EDGE_TLS_KEY", "/not/there")], "EDGE_TLS_KEY"),
        (
            vec![("EDGE_TLS_CERT", folder.path().to_str().unwrap()), ("EDGE_TLS_KEY", pem)],
            "EDGE_TLS_CERT",
        ),
    ] {
        let found: Vec<_> =
            faults(&env(&[], &added)).into_iter().map(|fault| fault.setting).collect();
        assert_eq!(found, [setting], "{added:?}");
    }
}

#[test]
fn a_key_that_the_edge_generated_is_refused_in_production() {
    let folder = tempfile::tempdir().unwrap();
    let generated = folder.path().join("kek");
    std::fs::write(&generated, "x").unwrap();
    let reference = format!("file:{}/./kek", folder.path().display());
    let mut sources = env(
        PRODUCTION,
        &[("EDGE_DATA_DIR", folder.path().to_str().unwrap()), ("EDGE_KEK", &reference)],
    );
    assert_eq!(faults(&sources)[0].setting, "EDGE_KEK");
    sources.env.insert("EDGE_DATA_DIR".into(), "/elsewhere".into());
    assert_eq!(
        loaded(&sources).config.kek,
        Kek::File(format!("{}/./kek", folder.path().display()).into())
    );
}

#[test]
fn the_sentence_about_authentication_stands_in_the_messages() {
    for added in [
        &[("EDGE_DEV_NO_AUTH", "true")][..],
        &[("EDGE_REQUIRE_HMAC", "false"), ("EDGE_VERIFY_JWT", "false")],
    ] {
        let message = faults(&env(&[], added))[0].to_string();
        assert!(message.contains("no switch turns authentication off"), "{message}");
    }
}

#[test]
fn things_of_later_builds_are_refused_with_a_clear_word() {
    for (name, value) in [
        ("EDGE_KEK", "awskms:alias/edge"),
        ("EDGE_KEK", "vault:transit/edge"),
        ("EDGE_OTLP_ENDPOINT", "https://otlp.example"),
    ] {
        let message = faults(&env(&[], &[(name, value)]))[0].to_string();
        assert!(message.contains("not supported by this build yet: "), "{message}");
    }
}

#[test]
fn the_defaults_of_both_profiles() {
    let development = loaded(&env(DEVELOPMENT, &[])).config;
    assert_eq!(development.profile, Development);
    assert_eq!(development.audience, "edgeward");
    assert_eq!(development.public_url, "http://127.0.0.1:8600");
    assert_eq!(development.base_path, "");
    assert_eq!(development.admin_listen, "127.0.0.1:8601".parse().unwrap());
    assert_eq!(development.database, Database::Sqlite("./edgeward-data/edgeward.db".into()));
    assert_eq!((&development.redis, &development.node), (&None, &None));
    assert_eq!(development.agent.secret_cache_ms, 300_000);
    assert_eq!(development.kek, Kek::Generated("./edgeward-data/kek".into()));
    assert_eq!(development.jwt_alg, JwtAlg::EdDsa);
    assert_eq!(development.log.format, LogFormat::Text);
    assert_eq!(development.owner.source, None);
    assert!(!development.agent.session_required && !development.agent.require_nonce);
    assert_eq!(development.agent.device_proof, DeviceProof::Rotation);
    assert_eq!(development.agent.secret_ttl_ms, 7_776_000_000);
    assert_eq!(development.agent.secret_grace_ms, 604_800_000);
    assert_eq!(development.auth.allow_body_signature, BodySignature::Off);

    let production = loaded(&env(PRODUCTION, &[])).config;
    assert!(production.agent.session_required && production.agent.require_nonce);
    assert!(
        production.auth.require_hmac
            && production.auth.verify_jwt
            && !production.auth.allow_header_secret
    );
    assert_eq!(production.agent.device_proof, DeviceProof::Session);
    assert_eq!(production.log.format, LogFormat::Json);
    assert_eq!(
        production.owner.source,
        Some(OwnerKeys::JwksUrl("https://id.example/jwks.json".into()))
    );
}

#[test]
fn a_legacy_signature_ends_at_the_start_of_its_day() {
    let sources = env(DEVELOPMENT, &[("EDGE_ALLOW_BODY_SIGNATURE", "2026-11-25")]);
    assert_eq!(
        loaded(&sources).config.auth.allow_body_signature,
        BodySignature::Until(NOW + 86_400_000)
    );
}

#[test]
fn development_settings_are_judged_as_production() {
    let findings =
        judge(&env(DEVELOPMENT, &[("EDGE_ALLOW_HEADER_SECRET", "true")]), Some(Production), NOW);
    let errors: Vec<_> = findings
        .iter()
        .filter(|finding| finding.level == Error)
        .map(|finding| finding.setting.as_str())
        .collect();
    assert_eq!(
        errors,
        [
            "EDGE_AUDIENCE",
            "EDGE_KEK",
            "EDGE_ALLOW_HEADER_SECRET",
            "OWNER_JWKS_URL, OWNER_JWKS_FILE, OWNER_JWT_SECRET"
        ]
    );
    let relaxed =
        judge(&env(PRODUCTION, &[("AGENT_REQUIRE_NONCE", "false")]), Some(Development), NOW);
    assert_eq!(relaxed, []);
}

#[test]
fn a_relative_and_an_absolute_path_to_the_generated_key_are_one_place() {
    let here = std::env::current_dir().unwrap();
    let reference = format!("file:{}/some-data/kek", here.display());
    let sources = env(PRODUCTION, &[("EDGE_DATA_DIR", "./some-data"), ("EDGE_KEK", &reference)]);
    assert!(faults(&sources).iter().any(|fault| fault.expected.contains("generated")));
}
