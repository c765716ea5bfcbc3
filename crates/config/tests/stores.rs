//! The database and Redis: every form that is taken, every fault, and what is shown of either.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod common;

use common::{DEVELOPMENT, NOW, PRODUCTION, env, faults, loaded, of};
use edgeward_config::{
    Database, Level, ListenUrl, Origin, PostgresConfig, Profile, RedisConfig, RedisNode,
    RedisServers, SecretText, judge,
};

use Level::{Error, Warning};
use Profile::{Development, Production};

const POSTGRES: &str = "postgres://edge:hunter2@127.0.0.1/edge";
const REDIS: &str = "redis://:hunter2@127.0.0.1";

fn node(host: &str, port: u16) -> RedisNode {
    RedisNode { host: host.into(), port }
}

fn secret(text: &str) -> Option<SecretText> {
    Some(SecretText::new(text.into()))
}

fn redis(url: &str) -> RedisConfig {
    loaded(&env(DEVELOPMENT, &[("EDGE_REDIS_URL", url)])).config.redis.expect("Redis")
}

/// What `edgeward config` prints of a setting, and whether it says that something is masked.
fn shown(setting: &str, value: &str) -> (String, bool) {
    let rows = loaded(&env(DEVELOPMENT, &[(setting, value)])).effective;
    let row = rows.into_iter().find(|row| row.setting == setting).expect("a row");
    (row.value, row.masked)
}

#[test]
fn a_postgres_database_with_what_holds_unless_said() {
    let config = loaded(&env(DEVELOPMENT, &[("EDGE_DATABASE_URL", POSTGRES)])).config;
    let expected = PostgresConfig {
        url: SecretText::new(POSTGRES.into()),
        listen_url: ListenUrl::Same,
        schema: "cogo".into(),
        pool: 10,
        timeout_ms: 1_000,
    };
    assert_eq!(config.database, Database::Postgres(expected));
}

#[test]
fn a_postgres_database_with_all_that_can_be_said() {
    let direct = "postgresql://edge:hunter2@db:5433/edge?sslmode=verify-full";
    for (listen, listen_url) in
        [(direct, ListenUrl::Url(SecretText::new(direct.into()))), ("none", ListenUrl::PollOnly)]
    {
        let sources = env(
            DEVELOPMENT,
            &[
                ("EDGE_DATABASE_URL", POSTGRES),
                ("EDGE_DATABASE_LISTEN_URL", listen),
                ("EDGE_DATABASE_POOL", "1000"),
                ("EDGE_DATABASE_TIMEOUT_MS", "60s"),
                ("EDGE_DB_SCHEMA", "_edge_2"),
            ],
        );
        let expected = PostgresConfig {
            url: SecretText::new(POSTGRES.into()),
            listen_url,
            schema: "_edge_2".into(),
            pool: 1_000,
            timeout_ms: 60_000,
        };
        assert_eq!(loaded(&sources).config.database, Database::Postgres(expected));
    }
}

#[test]
fn forms_of_a_postgres_url() {
    for url in [
        "postgres://edge@db/edge",
        "postgresql://edge@db:1/edge",
        "postgres://edge:p%40%2F%3F%23%25@db.example.org/edge",
        "postgres://edge:a:b@[2001:db8::1]:5432/edge",
        "postgres://edge@%2Frun%2Fpostgresql/edge",
        "postgres://edge@db/edge?sslmode=disable",
        "postgres://edge@db/edge?sslmode=allow",
        "postgres://edge@db/edge?sslmode=prefer",
        "postgres://edge@db/edge?sslmode=require",
        "postgres://edge@db/edge?sslmode=verify-ca&sslrootcert=/etc/ca.pem",
        "postgres://edge@db/edge?application_name=edge&sslcert=/c.pem&sslkey=/k.pem",
    ] {
        let config = loaded(&env(DEVELOPMENT, &[("EDGE_DATABASE_URL", url)])).config;
        let Database::Postgres(postgres) = config.database else { panic!("{url}") };
        assert_eq!(postgres.url.expose(), url);
    }
}

/// Every way to get such a URL wrong, and a word of the sentence about it.
const POSTGRES_FAULTS: &[(&str, &str)] = &[
    ("postgres://", "no user"),
    ("postgres://db/edge", "no user"),
    ("postgres://@db/edge", "empty"),
    ("postgres://:pw@db/edge", "empty"),
    ("postgres://edge:@db/edge", "empty"),
    ("postgres://edge@/edge", "no host"),
    ("postgres://edge@a,b/edge", "several hosts"),
    ("postgres://edge@db", "one database"),
    ("postgres://edge@db/", "one database"),
    ("postgres://edge@db/a/b", "one database"),
    ("postgres://edge@db:0/edge", "port"),
    ("postgres://edge@db:x/edge", "port"),
    ("postgres://edge@db:+1/edge", "port"),
    ("postgres://edge@db:65536/edge", "port"),
    ("postgres://edge@db:/edge", "port"),
    ("postgres://edge@::1/edge", "not a name or an address"),
    ("postgres://edge@127.1/edge", "not a name or an address"),
    ("postgres://edge@d!b/edge", "not a name or an address"),
    ("postgres://edge:p@w@db/edge", "an `@`"),
    ("postgres://edge:p/w@db/edge", "an `@`"),
    ("postgres://edge:p?w@db/edge", "an `@`"),
    ("postgres://edge:p#w@db/edge", "fragment"),
    ("postgres://edge:p w@db/edge", "character"),
    ("postgres://edge:p\\w@db/edge", "character"),
    ("postgres://edge:pä@db/edge", "character"),
    ("postgres://edge:p%w@db/edge", "hexadecimal"),
    ("postgres://edge:p%2@db/edge", "hexadecimal"),
    ("postgres://edge:p%00@db/edge", "control"),
    ("postgres://edge:p%ff@db/edge", "UTF-8"),
    ("postgres://edge@db/ed%zz", "hexadecimal"),
    ("postgres://edge@%2Frun%zz/edge", "hexadecimal"),
    ("postgres://edge@db/edge?", "no name or no value"),
    ("postgres://edge@db/edge?sslmode", "no name or no value"),
    ("postgres://edge@db/edge?sslmode=", "no name or no value"),
    ("postgres://edge@db/edge?=x", "no name or no value"),
    ("postgres://edge@db/edge?sslmode=require&", "no name or no value"),
    ("postgres://edge@db/edge?sslmode=require&sslmode=disable", "twice"),
    ("postgres://edge@db/edge?sslmode=on", "sslmode"),
    ("postgres://edge@db/edge?sslmode=Require", "sslmode"),
    ("postgres://edge@db/edge?sslkey=%zz", "hexadecimal"),
    ("postgres://edge@db/edge?host=/run", "unknown parameter"),
    ("postgres://edge@db/edge?password=pw", "unknown parameter"),
    ("postgres://edge@db/edge?options=-csearch_path%3Dx", "unknown parameter"),
    ("postgres://edge@db/edge?channel_binding=require", "unknown parameter"),
];

#[test]
fn each_fault_of_a_postgres_url_has_its_sentence() {
    for setting in ["EDGE_DATABASE_URL", "EDGE_DATABASE_LISTEN_URL"] {
        for (url, word) in POSTGRES_FAULTS {
            let mut added = vec![("EDGE_DATABASE_URL", POSTGRES)];
            added.push((setting, url));
            let faults = faults(&env(DEVELOPMENT, &added));
            let [only] = faults.as_slice() else { panic!("{url}: {faults:#?}") };
            assert_eq!(only.setting, setting);
            let why = only.expected.rsplit_once("; ").map(|(_, why)| why).unwrap_or_default();
            assert!(why.contains(word), "{url}: {only}");
            assert!(only.what_to_do.ends_with('.') && only.what_to_do != "Correct it.", "{only}");
        }
    }
}

#[test]
fn redis_with_what_holds_unless_said() {
    let expected = RedisConfig {
        servers: RedisServers::Single { host: "127.0.0.1".into(), port: 6379 },
        tls: false,
        ca: None,
        user: None,
        password: secret("hunter2"),
        db: 0,
        prefix: "edgeward".into(),
        timeout_ms: 100,
        max_lag_ms: 1_000,
        strict: false,
    };
    assert_eq!(redis(REDIS), expected);
}

#[test]
fn redis_with_all_that_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, "x").unwrap();
    let sources = env(
        PRODUCTION,
        &[
            ("EDGE_REDIS_URL", "rediss://edge:p%40w@cache:7000/3"),
            ("EDGE_REDIS_PREFIX", "edge-2_b"),
            ("EDGE_REDIS_TIMEOUT_MS", "5s"),
            ("EDGE_REDIS_MAX_LAG_MS", "60s"),
            ("EDGE_REDIS_STRICT", "true"),
            ("EDGE_REDIS_CA", pem.to_str().unwrap()),
        ],
    );
    let expected = RedisConfig {
        servers: RedisServers::Single { host: "cache".into(), port: 7000 },
        tls: true,
        ca: Some(pem),
        user: Some("edge".into()),
        password: secret("p@w"),
        db: 3,
        prefix: "edge-2_b".into(),
        timeout_ms: 5_000,
        max_lag_ms: 60_000,
        strict: true,
    };
    let loaded = loaded(&sources);
    assert_eq!(loaded.config.redis, Some(expected));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn forms_of_a_redis_url_to_one_server() {
    for (url, host, port, db) in [
        ("redis://cache", "cache", 6379, 0),
        ("redis://cache/", "cache", 6379, 0),
        ("redis://Cache.Example.org:1/15", "cache.example.org", 1, 15),
        ("redis://[2001:DB8::1]", "2001:db8::1", 6379, 0),
        ("rediss://[::1]:65535/1", "::1", 65_535, 1),
    ] {
        let config = redis(url);
        assert_eq!(config.servers, RedisServers::Single { host: host.into(), port }, "{url}");
        assert_eq!((config.db, config.tls), (db, url.starts_with("rediss")), "{url}");
        assert_eq!((config.user, config.password), (None, None));
    }
}

#[test]
fn forms_of_a_login() {
    for (login, user, password) in [
        ("edge:pw@", Some("edge"), "pw"),
        (":pw@", None, "pw"),
        ("ed%C3%A9:a:b%3A%2F%25@", Some("edé"), "a:b:/%"),
        ("a%2Bb:c+d@", Some("a+b"), "c+d"),
    ] {
        for (before, behind) in
            [("redis://", "h"), ("redis-sentinel://", "h/m"), ("redis-cluster://", "h,i")]
        {
            let config = redis(&format!("{before}{login}{behind}"));
            assert_eq!(config.user.as_deref(), user, "{login}");
            assert_eq!(config.password, secret(password), "{login}");
        }
    }
}

#[test]
fn forms_of_a_redis_url_to_sentinels() {
    let three = vec![node("h1", 26379), node("h2", 7), node("::1", 26379)];
    for (url, user, password, db) in [
        ("redis-sentinel://h1,h2:7,[::1]/m.y-m_1", None, None, 0),
        ("rediss-sentinel://h1:26379,h2:7,[::1]:26379/m.y-m_1/2", None, None, 2),
        ("redis-sentinel://h1,h2:7,[::1]/m.y-m_1?sentinel_password=p%26w", None, secret("p&w"), 0),
        (
            "redis-sentinel://h1,h2:7,[::1]/m.y-m_1/4?sentinel_user=watch&sentinel_password=pw",
            Some("watch"),
            secret("pw"),
            4,
        ),
    ] {
        let config = redis(url);
        let expected = RedisServers::Sentinel {
            sentinels: three.clone(),
            name: "m.y-m_1".into(),
            user: user.map(str::to_owned),
            password,
        };
        assert_eq!((config.servers, config.db), (expected, db), "{url}");
        assert_eq!(config.tls, url.starts_with("rediss"));
        assert_eq!((config.user, config.password), (None, None));
    }
}

#[test]
fn forms_of_a_redis_url_to_a_cluster() {
    for (url, nodes) in [
        ("redis-cluster://a", vec![node("a", 6379)]),
        ("rediss-cluster://a:1,b,[::1]:2", vec![node("a", 1), node("b", 6379), node("::1", 2)]),
        ("redis-cluster://a:1,a:2/", vec![node("a", 1), node("a", 2)]),
    ] {
        let config = redis(url);
        assert_eq!((config.servers, config.db), (RedisServers::Cluster(nodes), 0), "{url}");
        assert_eq!(config.tls, url.starts_with("rediss"));
    }
    assert_eq!(node("::1", 2).to_string(), "[::1]:2");
    assert_eq!(node("a", 1).to_string(), "a:1");
}

/// Every way to get such a URL wrong, and a word of the sentence about it.
const REDIS_FAULTS: &[(&str, &str)] = &[
    ("redis://", "no host"),
    ("redis://:pw@", "no host"),
    ("redis://:6379", "no host"),
    ("redis://@cache", "without a password"),
    ("redis://edge@cache", "without a password"),
    ("redis://:@cache", "empty"),
    ("redis://edge:@cache", "empty"),
    ("redis://a,b", "several hosts"),
    ("redis://cache:0", "port"),
    ("redis://cache:99999", "port"),
    ("redis://cache:", "port"),
    ("redis://::1", "not a name or an address"),
    ("redis://[::1", "not a name or an address"),
    ("redis://%2Frun%2Fredis.sock", "not a name or an address"),
    ("redis://cache/x", "not a number"),
    ("redis://cache/-1", "not a number"),
    ("redis://cache/4294967296", "not a number"),
    ("redis://cache/0/1", "not a number"),
    ("redis://cache?db=1", "unknown parameter"),
    ("redis://cache/0?timeout=1", "unknown parameter"),
    ("redis://cache?", "no name or no value"),
    ("rediss://cache/#insecure", "fragment"),
    ("redis://:p@w@cache", "an `@`"),
    ("redis://:p/w@cache", "an `@`"),
    ("redis://:p w@cache", "character"),
    ("redis://:p%4@cache", "hexadecimal"),
    ("redis://ed%0age:pw@cache", "control"),
    ("redis://:%ff@cache", "UTF-8"),
    ("redis-sentinel://h1,h2", "no master"),
    ("redis-sentinel://h1,h2/", "no master"),
    ("redis-sentinel://h1//0", "no master"),
    ("redis-sentinel://h1/my%20master", "no master"),
    ("redis-sentinel://h1/m/x", "not a number"),
    ("redis-sentinel://h1/m/0/0", "not a number"),
    ("redis-sentinel:///m", "no host"),
    ("redis-sentinel://h1,,h2/m", "no host"),
    ("redis-sentinel://h1,/m", "no host"),
    ("redis-sentinel://h1,h1:26379/m", "twice"),
    ("redis-sentinel://edge@h1/m", "without a password"),
    ("redis-sentinel://h1/m?sentinel_user=w", "without a password"),
    ("redis-sentinel://h1/m?sentinel_password=", "no name or no value"),
    ("redis-sentinel://h1/m?sentinel_user=w&sentinel_password=%zz", "hexadecimal"),
    ("redis-sentinel://h1/m?sentinel_password=a&sentinel_password=b", "twice"),
    ("redis-sentinel://h1/m?master=x", "unknown parameter"),
    ("redis-cluster://", "no host"),
    ("redis-cluster://a,", "no host"),
    ("redis-cluster://a,b,A:6379", "twice"),
    ("redis-cluster://a,b/0", "names a database"),
    ("redis-cluster://a,b?x=y", "unknown parameter"),
];

#[test]
fn each_fault_of_a_redis_url_has_its_sentence() {
    for (url, word) in REDIS_FAULTS {
        let faults = faults(&env(DEVELOPMENT, &[("EDGE_REDIS_URL", url)]));
        let [only] = faults.as_slice() else { panic!("{url}: {faults:#?}") };
        assert_eq!(only.setting, "EDGE_REDIS_URL");
        let why = only.expected.rsplit_once("; ").map(|(_, why)| why).unwrap_or_default();
        assert!(why.contains(word), "{url}: {only}");
        assert!(only.what_to_do.ends_with('.') && only.what_to_do != "Correct it.", "{only}");
    }
}

/// Profile, what is added, and the one finding that it makes.
type Case = (Profile, &'static [(&'static str, &'static str)], &'static str, Level);

const WITH_POSTGRES: (&str, &str) = ("EDGE_DATABASE_URL", POSTGRES);
const WITH_REDIS: (&str, &str) = ("EDGE_REDIS_URL", REDIS);

const CASES: &[Case] = &[
    (Development, &[("EDGE_NODE", "")], "EDGE_NODE", Error),
    (Development, &[("EDGE_NODE", "two words")], "EDGE_NODE", Error),
    (
        Development,
        &[("EDGE_NODE", "0123456789012345678901234567890123456789012345678901234567890123x")],
        "EDGE_NODE",
        Error,
    ),
    (Development, &[("EDGE_DATABASE_URL", "postgresq://e@db/e")], "EDGE_DATABASE_URL", Error),
    (Development, &[("EDGE_DATABASE_URL", "none")], "EDGE_DATABASE_URL", Error),
    (
        Development,
        &[WITH_POSTGRES, ("EDGE_DATABASE_LISTEN_URL", "sqlite:x")],
        "EDGE_DATABASE_LISTEN_URL",
        Error,
    ),
    (Development, &[WITH_POSTGRES, ("EDGE_DATABASE_POOL", "0")], "EDGE_DATABASE_POOL", Error),
    (Development, &[WITH_POSTGRES, ("EDGE_DATABASE_POOL", "1001")], "EDGE_DATABASE_POOL", Error),
    (
        Development,
        &[WITH_POSTGRES, ("EDGE_DATABASE_TIMEOUT_MS", "99")],
        "EDGE_DATABASE_TIMEOUT_MS",
        Error,
    ),
    (
        Development,
        &[WITH_POSTGRES, ("EDGE_DATABASE_TIMEOUT_MS", "60001")],
        "EDGE_DATABASE_TIMEOUT_MS",
        Error,
    ),
    (Development, &[WITH_POSTGRES, ("EDGE_DB_SCHEMA", "")], "EDGE_DB_SCHEMA", Error),
    (Development, &[WITH_POSTGRES, ("EDGE_DB_SCHEMA", "public")], "EDGE_DB_SCHEMA", Error),
    (Development, &[WITH_POSTGRES, ("EDGE_DB_SCHEMA", "pg_edge")], "EDGE_DB_SCHEMA", Error),
    (Development, &[WITH_POSTGRES, ("EDGE_DB_SCHEMA", "Cogo")], "EDGE_DB_SCHEMA", Error),
    (Development, &[WITH_POSTGRES, ("EDGE_DB_SCHEMA", "1cogo")], "EDGE_DB_SCHEMA", Error),
    (Development, &[WITH_POSTGRES, ("EDGE_DB_SCHEMA", "co-go")], "EDGE_DB_SCHEMA", Error),
    (
        Development,
        &[
            WITH_POSTGRES,
            ("EDGE_DB_SCHEMA", "a123456789012345678901234567890123456789012345678901234567890123"),
        ],
        "EDGE_DB_SCHEMA",
        Error,
    ),
    (Development, &[("EDGE_REDIS_URL", "http://127.0.0.1")], "EDGE_REDIS_URL", Error),
    (Development, &[("EDGE_REDIS_URL", "redis-sentinels://a/m")], "EDGE_REDIS_URL", Error),
    (Development, &[("EDGE_REDIS_URL", "none")], "EDGE_REDIS_URL", Error),
    (Development, &[("EDGE_REDIS_URL", "")], "EDGE_REDIS_URL", Error),
    (Development, &[WITH_REDIS, ("EDGE_REDIS_TIMEOUT_MS", "9")], "EDGE_REDIS_TIMEOUT_MS", Error),
    (Development, &[WITH_REDIS, ("EDGE_REDIS_TIMEOUT_MS", "5001")], "EDGE_REDIS_TIMEOUT_MS", Error),
    (
        Development,
        &[WITH_REDIS, ("EDGE_REDIS_MAX_LAG_MS", "60001")],
        "EDGE_REDIS_MAX_LAG_MS",
        Error,
    ),
    (Development, &[WITH_REDIS, ("EDGE_REDIS_PREFIX", "")], "EDGE_REDIS_PREFIX", Error),
    (Development, &[WITH_REDIS, ("EDGE_REDIS_PREFIX", "a:b")], "EDGE_REDIS_PREFIX", Error),
    (Development, &[WITH_REDIS, ("EDGE_REDIS_PREFIX", "a{b}")], "EDGE_REDIS_PREFIX", Error),
    (Development, &[WITH_REDIS, ("EDGE_REDIS_PREFIX", "Edge")], "EDGE_REDIS_PREFIX", Error),
    (
        Development,
        &[WITH_REDIS, ("EDGE_REDIS_PREFIX", "012345678901234567890123456789012")],
        "EDGE_REDIS_PREFIX",
        Error,
    ),
    (Development, &[WITH_REDIS, ("EDGE_REDIS_STRICT", "yes")], "EDGE_REDIS_STRICT", Error),
    (
        Development,
        &[("EDGE_REDIS_URL", "rediss://cache"), ("EDGE_REDIS_CA", "/not/there")],
        "EDGE_REDIS_CA",
        Error,
    ),
    // Without effect.
    (Production, &[("EDGE_DATABASE_LISTEN_URL", "none")], "EDGE_DATABASE_LISTEN_URL", Warning),
    (Production, &[("EDGE_DATABASE_POOL", "10")], "EDGE_DATABASE_POOL", Warning),
    (Production, &[("EDGE_DATABASE_TIMEOUT_MS", "1s")], "EDGE_DATABASE_TIMEOUT_MS", Warning),
    (Development, &[("EDGE_DB_SCHEMA", "cogo")], "EDGE_DB_SCHEMA", Warning),
    (
        Development,
        &[("EDGE_DATABASE_URL", "sqlite:x.db"), ("EDGE_DB_SCHEMA", "cogo")],
        "EDGE_DB_SCHEMA",
        Warning,
    ),
    (Production, &[("EDGE_REDIS_TIMEOUT_MS", "100")], "EDGE_REDIS_TIMEOUT_MS", Warning),
    (Production, &[("EDGE_REDIS_PREFIX", "edgeward")], "EDGE_REDIS_PREFIX", Warning),
    (Production, &[("EDGE_REDIS_MAX_LAG_MS", "1s")], "EDGE_REDIS_MAX_LAG_MS", Warning),
    (Development, &[("EDGE_REDIS_STRICT", "true")], "EDGE_REDIS_STRICT", Warning),
    // Cleartext beyond loopback.
    (Production, &[("EDGE_DATABASE_URL", "postgres://e:pw@db/e")], "EDGE_DATABASE_URL", Warning),
    (
        Production,
        &[("EDGE_DATABASE_URL", "postgres://e:pw@10.0.0.1/e?sslmode=prefer")],
        "EDGE_DATABASE_URL",
        Warning,
    ),
    (
        Production,
        &[("EDGE_DATABASE_URL", "postgres://e:pw@db/e?sslmode=disable")],
        "EDGE_DATABASE_URL",
        Warning,
    ),
    (
        Production,
        &[WITH_POSTGRES, ("EDGE_DATABASE_LISTEN_URL", "postgres://e:pw@db/e?sslmode=allow")],
        "EDGE_DATABASE_LISTEN_URL",
        Warning,
    ),
    (Production, &[("EDGE_REDIS_URL", "redis://:pw@cache")], "EDGE_REDIS_URL", Warning),
    (Production, &[("EDGE_REDIS_URL", "redis://[2001:db8::1]")], "EDGE_REDIS_URL", Warning),
    (
        Production,
        &[("EDGE_REDIS_URL", "redis-sentinel://127.0.0.1,10.0.0.1/m")],
        "EDGE_REDIS_URL",
        Warning,
    ),
    (
        Production,
        &[("EDGE_REDIS_URL", "redis-cluster://127.0.0.1,10.0.0.1")],
        "EDGE_REDIS_URL",
        Warning,
    ),
    (
        Production,
        &[WITH_REDIS, ("AGENT_SECRET_CACHE_MS", "1000")],
        "AGENT_SECRET_CACHE_MS",
        Warning,
    ),
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
fn values_on_the_edge_of_a_rule_pass() {
    for added in [
        &[("EDGE_NODE", "0123456789012345678901234567890123456789012345678901234567890123")][..],
        &[WITH_POSTGRES, ("EDGE_DATABASE_POOL", "1")],
        &[WITH_POSTGRES, ("EDGE_DATABASE_TIMEOUT_MS", "100ms")],
        &[WITH_POSTGRES, ("EDGE_DB_SCHEMA", "publics")],
        &[
            WITH_POSTGRES,
            ("EDGE_DB_SCHEMA", "a12345678901234567890123456789012345678901234567890123456789012"),
        ],
        &[WITH_POSTGRES, WITH_REDIS],
        &[WITH_REDIS],
        &[WITH_REDIS, ("EDGE_DATABASE_URL", "sqlite:x.db")],
        &[WITH_REDIS, ("EDGE_REDIS_TIMEOUT_MS", "10")],
        &[WITH_REDIS, ("EDGE_REDIS_MAX_LAG_MS", "0")],
        &[WITH_REDIS, ("EDGE_REDIS_PREFIX", "01234567890123456789012345678901")],
        &[WITH_REDIS, ("AGENT_SECRET_CACHE_MS", "0")],
        &[("EDGE_DATABASE_URL", "postgres://e:pw@db/e?sslmode=require")],
        &[("EDGE_DATABASE_URL", "postgres://e:pw@db/e?sslmode=verify-ca")],
        &[("EDGE_DATABASE_URL", "postgres://e:pw@db/e?sslmode=verify-full")],
        &[("EDGE_DATABASE_URL", "postgres://e:pw@localhost/e")],
        &[("EDGE_DATABASE_URL", "postgres://e:pw@[::1]/e?sslmode=disable")],
        &[("EDGE_DATABASE_URL", "postgres://e@%2frun/e")],
        &[("EDGE_REDIS_URL", "redis://[::1]")],
        &[("EDGE_REDIS_URL", "redis://[::ffff:127.0.0.1]")],
        &[("EDGE_REDIS_URL", "redis-cluster://localhost:1,127.0.0.1:2")],
        &[("EDGE_REDIS_URL", "rediss-sentinel://a,b,c/m")],
    ] {
        for profile in [Development, Production] {
            assert_eq!(judge(&env(of(profile), added), None, NOW), [], "{profile}: {added:?}");
        }
    }
    // What is warned in production is not worth a word in development.
    for url in ["redis://:pw@cache", "redis-cluster://a,b"] {
        assert_eq!(judge(&env(DEVELOPMENT, &[("EDGE_REDIS_URL", url)]), None, NOW), [], "{url}");
    }
    let url = ("EDGE_DATABASE_URL", "postgres://e:pw@db/e");
    assert_eq!(judge(&env(DEVELOPMENT, &[url]), None, NOW), []);
}

#[test]
fn roots_without_tls_have_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, "x").unwrap();
    let ca = ("EDGE_REDIS_CA", pem.to_str().unwrap());
    for (added, warned) in [
        (vec![ca], true),
        (vec![ca, ("EDGE_REDIS_URL", "redis://127.0.0.1")], true),
        (vec![ca, ("EDGE_REDIS_URL", "redis-sentinel://127.0.0.1/m")], true),
        (vec![ca, ("EDGE_REDIS_URL", "rediss://127.0.0.1")], false),
        (vec![ca, ("EDGE_REDIS_URL", "rediss-cluster://127.0.0.1")], false),
    ] {
        let findings = judge(&env(DEVELOPMENT, &added), None, NOW);
        let seen: Vec<_> =
            findings.iter().map(|finding| (finding.setting.as_str(), finding.level)).collect();
        let expected = if warned { vec![("EDGE_REDIS_CA", Warning)] } else { Vec::new() };
        assert_eq!(seen, expected, "{added:?}");
    }
}

#[test]
fn an_unfit_url_is_the_one_finding_whatever_else_is_set() {
    let database = [("EDGE_DATABASE_URL", "postgres://db"), ("EDGE_DATABASE_POOL", "5")];
    let redis = [("EDGE_REDIS_URL", "redis://"), ("EDGE_REDIS_STRICT", "true")];
    for added in [database, redis] {
        let findings = judge(&env(DEVELOPMENT, &added), None, NOW);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].setting, added[0].0);
    }
}

#[test]
fn secrets_are_cached_by_default_unless_production_shares_them() {
    for (profile, added, expected, origin) in [
        (Development, vec![], "300000", Origin::ProfileDefault(Development)),
        (Development, vec![WITH_REDIS], "300000", Origin::ProfileDefault(Development)),
        (Production, vec![], "300000", Origin::ProfileDefault(Production)),
        (Production, vec![WITH_REDIS], "0", Origin::ProfileDefault(Production)),
        (Production, vec![WITH_REDIS, ("AGENT_SECRET_CACHE_MS", "1s")], "1s", Origin::Environment),
        (Production, vec![("AGENT_SECRET_CACHE_MS", "0")], "0", Origin::Environment),
    ] {
        let loaded = loaded(&env(of(profile), &added));
        let millis = if expected == "1s" { 1_000 } else { expected.parse().unwrap() };
        assert_eq!(loaded.config.agent.secret_cache_ms, millis, "{profile} {added:?}");
        let row = loaded.effective.into_iter().find(|row| row.setting == "AGENT_SECRET_CACHE_MS");
        let row = row.expect("a row");
        assert_eq!((row.value.as_str(), row.origin), (expected, origin), "{profile} {added:?}");
    }
}

#[test]
fn a_cache_of_secrets_together_with_redis_is_warned() {
    let redis = ("EDGE_REDIS_URL", "redis://127.0.0.1");
    for (cache, expected) in [("1000", 1), ("0", 0)] {
        let findings =
            judge(&env(DEVELOPMENT, &[redis, ("AGENT_SECRET_CACHE_MS", cache)]), None, NOW);
        let warned = findings
            .iter()
            .filter(|finding| {
                finding.setting == "AGENT_SECRET_CACHE_MS" && finding.level == Warning
            })
            .count();
        assert_eq!(warned, expected, "{cache}");
    }
}

#[test]
fn what_is_shown_of_a_url_is_all_but_its_secrets() {
    for (setting, url, expected) in [
        ("EDGE_DATABASE_URL", POSTGRES, "postgres://edge:***@127.0.0.1/edge"),
        (
            "EDGE_DATABASE_URL",
            "postgresql://edge:hunter2@db:5433/edge?sslmode=require&application_name=a&sslrootcert=/ca&sslkey=/hunter2",
            "postgresql://edge:***@db:5433/edge?sslmode=require&application_name=a&sslrootcert=***&sslkey=***",
        ),
        ("EDGE_DATABASE_URL", "postgres://edge@db/edge", "postgres://edge@db/edge"),
        ("EDGE_DATABASE_URL", "sqlite:x.db", "sqlite:x.db"),
        ("EDGE_DATABASE_LISTEN_URL", POSTGRES, "postgres://edge:***@127.0.0.1/edge"),
        ("EDGE_DATABASE_LISTEN_URL", "none", "none"),
        ("EDGE_REDIS_URL", REDIS, "redis://:***@127.0.0.1"),
        ("EDGE_REDIS_URL", "rediss://edge:hunter2@h:1/2", "rediss://edge:***@h:1/2"),
        ("EDGE_REDIS_URL", "redis://h", "redis://h"),
        (
            "EDGE_REDIS_URL",
            "redis-sentinel://edge:hunter2@h1,[::1]:7/m/3?sentinel_user=w&sentinel_password=hunter2",
            "redis-sentinel://edge:***@h1,[::1]:7/m/3?sentinel_user=w&sentinel_password=***",
        ),
        ("EDGE_REDIS_URL", "redis-cluster://:hunter2@a,b:7", "redis-cluster://:***@a,b:7"),
    ] {
        assert_eq!(shown(setting, url), (expected.to_owned(), expected.contains("***")));
    }
}

#[test]
fn no_password_is_in_a_debug_print_or_a_finding() {
    for (setting, url) in [
        ("EDGE_DATABASE_URL", "postgres://edge:hunter2@db/edge"),
        ("EDGE_DATABASE_LISTEN_URL", "postgres://edge:hunter2@db/edge"),
        ("EDGE_REDIS_URL", "redis://edge:hunter2@cache"),
        ("EDGE_REDIS_URL", "redis-sentinel://:hunter2@a/m?sentinel_password=hunter2"),
        ("EDGE_REDIS_URL", "redis-cluster://:hunter2@a,b"),
    ] {
        let mut added = vec![(setting, url)];
        if setting == "EDGE_DATABASE_LISTEN_URL" {
            added.push(("EDGE_DATABASE_URL", "postgres://edge:hunter2@db/edge"));
        }
        let loaded = loaded(&env(PRODUCTION, &added));
        assert!(!loaded.warnings.is_empty(), "{url}");
        for text in [
            format!("{loaded:?} {:?} {:?}", loaded.config.database, loaded.config.redis),
            serde_json::to_string(&loaded.effective).unwrap(),
            serde_json::to_string(&loaded.warnings).unwrap(),
        ] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

#[test]
fn urls_come_from_mounted_files_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (database, listen, redis) =
        (path("d", POSTGRES), path("l", &format!("{POSTGRES}\n")), path("r", REDIS));
    let sources = env(
        DEVELOPMENT,
        &[
            ("EDGE_DATABASE_URL_FILE", &database),
            ("EDGE_DATABASE_LISTEN_URL_FILE", &listen),
            ("EDGE_REDIS_URL_FILE", &redis),
            ("EDGE_NODE", "node-1"),
        ],
    );
    let config = loaded(&sources).config;
    let Database::Postgres(postgres) = config.database else { panic!("SQLite") };
    assert_eq!(postgres.url.expose(), POSTGRES);
    assert_eq!(postgres.listen_url, ListenUrl::Url(SecretText::new(POSTGRES.into())));
    assert_eq!(config.redis.unwrap().password, secret("hunter2"));
    assert_eq!(config.node.as_deref(), Some("node-1"));
}
