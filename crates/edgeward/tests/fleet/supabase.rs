//! A deployment beside a Supabase project: its database behind a pooler, its users as owners, its paths.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edgeward_config::{Database, Files, Finding, ListenUrl, LocalFiles, Sources, load_with};
use edgeward_services::{PgBouncer, Postgres};
use edgeward_testkit::{Agent, AsDoor as _, Device, Enrolment, Reply, Upstream, base64url, owner};
use serde_json::{Value, json};

use crate::node::{Node, Plan};
use crate::pushes::PATIENCE_MS;
use crate::scene::{PASSWORD, Scene, Shared};

const PAGE: &str = include_str!("../../../../docs/supabase.md");
const BASE: &str = "/functions/v1";
const USER: &str = "2f5c1c9e-4a6b-4d8f-9a0b-7c1d2e3f4a5b";

/// Who may do what in a project: the roles of the API, and `postgres`, which is no superuser there.
const ROLES: &str = "
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD 'password';
GRANT anon, authenticated, service_role TO authenticator;
CREATE ROLE project_postgres LOGIN CREATEROLE CREATEDB BYPASSRLS REPLICATION PASSWORD 'password';
CREATE DATABASE project OWNER project_postgres;
";

/// A project with Edgeward's tables, and nodes behind a pooler in transaction mode.
struct Project {
    postgres: Postgres,
    _pooler: PgBouncer,
    scene: Scene,
}

impl Project {
    async fn with(nodes: usize, change: impl FnOnce(Plan) -> Plan) -> Self {
        let postgres = Postgres::start().unwrap();
        postgres.psql(&postgres.url(), ROLES).unwrap();
        let printed = tokio::process::Command::new(env!("CARGO_BIN_EXE_edgeward"))
            .args(["migrate", "--print"])
            .env_clear()
            .output()
            .await
            .unwrap();
        let sql = String::from_utf8(printed.stdout).unwrap();
        let as_in_the_editor = postgres.url_for("project_postgres", "password", "project");
        postgres.psql(&as_in_the_editor, &sql).unwrap();
        let granted = "SELECT pg_has_role('authenticator', 'edgeward_agent', 'MEMBER')";
        assert_eq!(postgres.psql(&as_in_the_editor, granted).unwrap(), "t");
        let statement =
            page_block("sql", "ALTER ROLE").replace("'PASSWORD'", &format!("'{PASSWORD}'"));
        postgres.psql(&as_in_the_editor, &statement).unwrap();

        let pooler = PgBouncer::start(&postgres, &[("edgeward_edge", PASSWORD)]).unwrap();
        let pooled = pooler.url_for("edgeward_edge", PASSWORD, "project");
        let direct = postgres.url_for("edgeward_edge", PASSWORD, "project");
        let database = postgres.url_for("postgres", "throwaway", "project");
        let change = |plan: Plan| {
            let mut plan = plan
                .set("EDGE_DATABASE_URL", pooled)
                .set("EDGE_DATABASE_LISTEN_URL", direct)
                .set("EDGE_REDIS_TIMEOUT_MS", PATIENCE_MS)
                .set("EDGE_BASE_PATH", BASE)
                .set("OWNER_AUDIENCE", "authenticated")
                .set("OWNER_ROLES", "authenticated")
                .set("OWNER_SCOPES", "llm:chat");
            plan.env.remove("OWNER_SCOPES_CLAIM");
            plan.toml = plan.toml.replace("\"/v1/\"", &format!("\"{BASE}/api/\""));
            change(plan)
        };
        let scene = Scene::start_on(&postgres, database, nodes, Shared::single(), change).await;
        Self { postgres, _pooler: pooler, scene }
    }

    /// From now on the agent is one of the older design; on nodes that have not read it yet.
    fn mark(&self, agent: &Agent) {
        let statement = page_block("sql", "SET legacy")
            .replace("0192f3c4-5a6b-7c8d-9e0f-1a2b3c4d5e6f", &agent.id.to_string());
        let as_in_the_editor = self.postgres.url_for("project_postgres", "password", "project");
        self.postgres.psql(&as_in_the_editor, &statement).unwrap();
        let marked = format!("SELECT legacy FROM cogo.agent_devices WHERE id = '{}'", agent.id);
        assert_eq!(self.postgres.psql(&self.scene.database, &marked).unwrap(), "t");
    }
}

/// The blocks of the page in a language.
fn page_blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(&*fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The one block with these words.
fn page_block(language: &str, words: &str) -> &'static str {
    let mut blocks = page_blocks(language).into_iter().filter(|block| block.contains(words));
    let block = blocks.next().unwrap();
    assert_eq!(blocks.next(), None);
    block
}

/// What Supabase Auth signs for a user who has signed in with a password.
fn claims(issuer: &str, now_ms: u64) -> Value {
    let now = now_ms / 1000;
    json!({
        "aud": "authenticated", "exp": now + 3600, "iat": now, "iss": issuer, "sub": USER,
        "email": "someone@example.com", "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email_verified": true, "sub": USER},
        "role": "authenticated", "aal": "aal1",
        "amr": [{"method": "password", "timestamp": now}],
        "session_id": "b1a2c3d4-0000-4000-8000-000000000001", "is_anonymous": false,
    })
}

/// A signing key of a project, and its key set as Supabase publishes it.
struct SigningKey {
    key: Device,
    kid: &'static str,
}

impl SigningKey {
    fn new() -> Self {
        Self { key: Device::p256(), kid: "5f0e9f6c-7d3e-4f8a-b1c2-d3e4f5a6b7c8" }
    }

    fn set(&self) -> Value {
        let mut key = self.key.public().jwk();
        let more = json!({"alg": "ES256", "kid": self.kid, "use": "sig", "ext": true, "key_ops": ["verify"]});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"keys": [key]})
    }

    fn sign(&self, claims: &Value) -> String {
        let head = json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"});
        let signed = format!("{}.{}", base64url(head.to_string()), base64url(claims.to_string()));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{signature}")
    }
}

/// The user's token enrols an agent at one node, which works at another under the base path; what is
/// no user's token enrols nobody.
async fn assert_owners(
    here: &Node,
    there: &Node,
    upstream: &Upstream,
    issuer: &str,
    sign: impl Fn(&Value) -> String,
) {
    let door = here.door();
    let good = claims(issuer, door.clock.now().wall.0);
    let plan = Enrolment::default();
    let started = door.enroll_start(Some(&sign(&good)), json!({"scopes": ["llm:chat"]})).await;
    let started = started.expect(200).json();
    let completed = Enrolment::complete(here, &plan.completion(&started)).await.expect(200);
    let agent = Agent::of(here, completed.json(), plan.device);
    assert_eq!(agent.owner, USER);
    let session = agent.session(there).await;
    let target = format!("{BASE}/api/chat?stream=false");
    agent.signed("POST", &target).body("{}").in_session(&session).send(there).await.expect(200);
    let seen = upstream.last();
    assert_eq!(seen.target(), target);
    assert_eq!(seen.all("x-edgeward-owner-user-id"), [USER]);
    agent.signed("GET", "/api/chat").send(there).await.refused("route_unknown");

    let with = |changes: Value| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let mut of_nobody = with(json!({"role": "service_role"}));
    of_nobody.as_object_mut().unwrap().remove("sub");
    for (claims, code) in [
        (with(json!({"is_anonymous": true})), "owner_not_allowed"),
        (with(json!({"role": "anon"})), "owner_not_allowed"),
        (with(json!({"role": "service_role"})), "owner_not_allowed"),
        (with(json!({"aud": "anon"})), "token_invalid"),
        (with(json!({"iss": "https://another.supabase.co/auth/v1"})), "token_invalid"),
        (of_nobody, "token_invalid"),
    ] {
        door.enroll_start(Some(&sign(&claims)), json!({})).await.refused(code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_supabase_auth_are_owners() {
    let key = SigningKey::new();
    let auth = Upstream::start().await;
    let issuer = format!("{}/auth/v1", auth.url());
    let set = key.set().to_string().into_bytes();
    auth.plan(move |request| match request.target().as_str() {
        "/auth/v1/.well-known/jwks.json" => Reply::Whole(200, Vec::new(), set.clone()),
        _ => Reply::Whole(404, Vec::new(), Vec::new()),
    });
    let by_url = |plan: Plan| {
        let mut plan = plan
            .set("OWNER_ISSUER", &issuer)
            .set("OWNER_JWKS_URL", format!("{issuer}/.well-known/jwks.json"));
        plan.env.remove("OWNER_JWT_SECRET");
        plan
    };
    let project = Project::with(2, by_url).await;
    let scene = &project.scene;
    let [here, there] = &scene.nodes[..] else { panic!("two nodes") };
    assert_owners(here, there, &scene.upstream, &issuer, |claims| key.sign(claims)).await;
    // The secret of the same project's older kind of token is none here.
    let by_secret = owner::token(&claims(&issuer, here.door().clock.now().wall.0));
    here.door().enroll_start(Some(&by_secret), json!({})).await.refused("token_invalid");

    // By a file, and by the secret of an older project, over the same database.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key.set().to_string()).unwrap();
    let mut plan = scene.plan.clone().set("OWNER_JWKS_FILE", file.path().display());
    plan.env.remove("OWNER_JWKS_URL");
    let by_file = plan.start().await;
    assert_owners(&by_file, there, &scene.upstream, &issuer, |claims| key.sign(claims)).await;
    let mut plan = scene.plan.clone().set("OWNER_JWT_SECRET", owner::SECRET);
    plan.env.remove("OWNER_JWKS_URL");
    let by_secret = plan.start().await;
    assert_owners(&by_secret, there, &scene.upstream, &issuer, owner::token).await;
    let by_key = key.sign(&claims(&issuer, here.door().clock.now().wall.0));
    by_secret.door().enroll_start(Some(&by_key), json!({})).await.refused("token_invalid");
}

/// An owner's token under the settings of every scene.
async fn enrolled(node: &Node) -> Agent {
    let door = node.door();
    let jwt = owner::token(&claims("", door.clock.now().wall.0));
    let plan = Enrolment::default();
    let started = door.enroll_start(Some(&jwt), json!({"scopes": ["llm:chat"]})).await;
    let started = started.expect(200).json();
    let completed = Enrolment::complete(node, &plan.completion(&started)).await.expect(200);
    Agent::of(node, completed.json(), plan.device)
}

/// What is needed of a production deployment, with what it would only be warned of.
fn in_production(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for switch in ["EDGE_ALLOW_BODY_SIGNATURE", "EDGE_ALLOW_HEADER_SECRET"] {
        plan.env.remove(switch);
    }
    plan.set("EDGE_PROFILE", "production")
        .set("AGENT_SESSION_REQUIRED", false)
        .set("AGENT_REQUIRE_NONCE", false)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_credentials_are_for_development() {
    const TARGET: &str = "/functions/v1/api/x";
    let switches = page_block("sh", "EDGE_ALLOW_HEADER_SECRET");
    let switched = |plan: Plan| {
        switches.lines().fold(plan, |plan, line| {
            let (name, value) = line.split_once('=').unwrap();
            plan.set(name, value)
        })
    };
    let project = Project::with(2, switched).await;
    let scene = &project.scene;
    let [here, there] = &scene.nodes[..] else { panic!("two nodes") };
    let (legacy, modern) = (enrolled(here).await, enrolled(here).await);
    project.mark(&legacy);
    let by_body = |agent: &Agent| agent.signed("POST", TARGET).body("body").body_signature();
    let by_secret = |agent: &Agent| agent.signed("GET", TARGET).header_secret();
    let answer = by_body(&legacy).send(there).await.expect(200);
    assert!(answer.header("deprecation").is_some(), "{:?}", answer.head);
    by_secret(&modern).send(there).await.expect(200);
    by_body(&legacy).swapped_body("other").send(there).await.refused("signature_invalid");
    by_body(&modern).send(there).await.refused("signature_invalid");
    legacy.signed("GET", TARGET).send(there).await.refused("signature_invalid");
    assert_eq!(scene.upstream.count(), 2);

    // Refused in production: without the switches each request, with one of them the start.
    let production = in_production(&scene.plan);
    let node = production.start().await;
    by_body(&legacy).send(&node).await.refused("signature_invalid");
    by_secret(&modern).send(&node).await.refused("credentials_missing");
    modern.signed("GET", TARGET).send(&node).await.expect(200);
    for switch in ["EDGE_ALLOW_BODY_SIGNATURE", "EDGE_ALLOW_HEADER_SECRET"] {
        let said = production.clone().set(switch, true).refused().await;
        assert!(said.contains(switch), "{said}");
    }
    let far = production.clone().set("EDGE_ALLOW_BODY_SIGNATURE", "2999-01-01").refused().await;
    assert!(far.contains("EDGE_ALLOW_BODY_SIGNATURE"), "{far}");
    // A date that has passed is as none.
    let over = production.clone().set("EDGE_ALLOW_BODY_SIGNATURE", "2025-01-01").start().await;
    by_body(&legacy).send(&over).await.refused("signature_invalid");
    assert_eq!(scene.upstream.count(), 3);
}

/// This machine's files, and those that the page names.
struct WithThePages;

impl Files for WithThePages {
    fn read(&self, path: &std::path::Path) -> std::io::Result<Vec<u8>> {
        match path.to_str() {
            Some("supabase-jwt-secret") => Ok(owner::SECRET.into()),
            _ => LocalFiles.read(path),
        }
    }

    fn probe(&self, path: &std::path::Path) -> std::io::Result<()> {
        match path.to_str() {
            Some("supabase-ca.crt") => Ok(()),
            _ => LocalFiles.probe(path),
        }
    }
}

#[test]
fn every_line_of_settings_on_the_page_is_one() {
    let blocks = page_blocks("sh");
    assert_eq!(blocks.len(), 6);
    for block in blocks {
        let lines: BTreeMap<String, String> = block
            .lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(lines.len(), block.lines().count());
        let development = lines.keys().any(|name| name.starts_with("EDGE_ALLOW_"));
        let mut env: BTreeMap<String, String> = [
            ("EDGE_PROFILE", if development { "development" } else { "production" }),
            ("EDGE_AUDIENCE", "prod"),
            ("EDGE_KEK", "env:MY_KEK"),
            ("MY_KEK", &"5fa7".repeat(16)),
            ("EDGE_DATABASE_URL", "postgres://edgeward_edge:PASSWORD@localhost/postgres"),
            ("EDGE_REDIS_URL", "redis://localhost"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        env.extend(lines.clone());
        if !env.keys().any(|name| name.starts_with("OWNER_J")) {
            env.insert("OWNER_JWT_SECRET".into(), owner::SECRET.into());
        }
        let file = Some((PathBuf::from("edgeward.toml"), String::new()));
        let sources = Sources { env, file, flags: BTreeMap::new() };
        let loaded = load_with(&sources, 1_790_000_000_000, &WithThePages);
        let loaded = loaded.unwrap_or_else(|faults| panic!("{block}\n{faults}"));
        let warned = loaded.warnings.iter().filter(|warning| lines.contains_key(&warning.setting));
        assert_eq!(warned.collect::<Vec<_>>(), Vec::<&Finding>::new(), "{block}");
        let Database::Postgres(database) = &loaded.config.database else { panic!("{block}") };
        let told = lines.get("EDGE_DATABASE_URL");
        assert!(told.is_none_or(|url| url == database.url.expose()), "{block}");
        if let Some(listen) = lines.get("EDGE_DATABASE_LISTEN_URL") {
            let ListenUrl::Url(url) = &database.listen_url else { panic!("{block}") };
            assert_eq!(url.expose(), listen);
        }
    }
}
