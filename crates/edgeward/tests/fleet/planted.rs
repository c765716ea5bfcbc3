//! Secrets that were given out, searched for in everything that is kept or said of them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use edgeward_services::{Postgres, Redis, RedisOptions};
use edgeward_testkit::{Agent, Enrolment, Session, owner};
use edgeward_wire::SessionKey;
use serde_json::json;

use crate::blocks::change;
use crate::pushes::{PASSWORD, PATIENCE_MS, Pushes};
use crate::scene::{self, Scene, Shared};
use crate::stream::Stream;
use crate::times::proof;

/// What must not be found, by name.
#[derive(Default)]
struct Planted(Vec<(String, Vec<u8>)>);

impl Planted {
    /// A text, and the bytes that it may stand for, in every form that they are usually written in.
    fn add(&mut self, name: &str, text: &str) {
        self.forms(name, text.as_bytes());
        let payload = text.strip_prefix("ewk_").or(text.strip_prefix("ews_")).unwrap_or(text);
        if let Some(Ok(bytes)) = payload.get(..43).map(|text| URL_SAFE_NO_PAD.decode(text)) {
            self.forms(&format!("{name}, its bytes"), &bytes);
        }
    }

    fn forms(&mut self, name: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut form = |form: &str, bytes: Vec<u8>| self.0.push((format!("{name} {form}"), bytes));
        form("as it is", bytes.to_vec());
        form("in hex", hex.to_uppercase().into_bytes());
        form("in hex", hex.into_bytes());
        // Within a longer text, the letters that stand for it depend on how many bytes are before it.
        for before in 0..3 {
            let padded = [vec![0; before], bytes.to_vec()].concat();
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                let text = engine.encode(&padded);
                let first = (before * 8).div_ceil(6);
                let last = padded.len() * 8 / 6;
                form("in base64", text.as_bytes()[first..last].to_vec());
            }
        }
    }

    fn session(&mut self, agent: &Agent, session: &Session) {
        self.add("a session's id", session.id());
        self.add("a session's salt", session.started.session_salt.expose());
        self.forms("a session's key", &key_of(agent, session));
    }

    fn found_in<'a>(&'a self, haystack: &[u8]) -> Vec<&'a str> {
        let haystack = letters(haystack);
        let here = |bytes: &[u8]| haystack.contains(&letters(bytes));
        self.0.iter().filter(|(_, bytes)| here(bytes)).map(|(name, _)| name.as_str()).collect()
    }
}

/// Each byte as the letter of its number, for searching.
fn letters(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn key_of(agent: &Agent, session: &Session) -> [u8; 32] {
    let started = &session.started;
    *SessionKey::derive(&agent.secret, &started.session_id, &started.session_salt).expose()
}

#[test]
fn every_form_is_found_where_it_is() {
    let secret = "ewk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8000000";
    let bytes: Vec<u8> = (0..32).collect();
    let mut planted = Planted::default();
    planted.add("secret", secret);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for text in [
        format!("before {secret} after").into_bytes(),
        hex(secret.as_bytes()).into_bytes(),
        hex(&bytes).to_uppercase().into_bytes(),
        [b"x", bytes.as_slice()].concat(),
        STANDARD.encode(&bytes).into_bytes(),
        STANDARD.encode(format!("{{\"secret\":\"{secret}\"}}")).into_bytes(),
        STANDARD.encode(format!("{{\"a_secret\":\"{secret}\"}}")).into_bytes(),
        STANDARD.encode(format!("{{\"an_secret\":\"{secret}\"}}")).into_bytes(),
    ] {
        assert!(!planted.found_in(&text).is_empty(), "{}", letters(&text));
    }
    assert_eq!(planted.found_in(b"BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), [""; 0]);
}

/// All keys and values of a Redis: as its own snapshot has them, and as it answers them.
fn all_of(redis: &Redis) -> Vec<u8> {
    redis.command(&["SAVE"]).unwrap();
    let setting = |name| redis.command(&["CONFIG", "GET", name]).unwrap().texts().remove(1);
    let snapshot = std::path::Path::new(&setting("dir")).join(setting("dbfilename"));
    let mut all = std::fs::read(snapshot).unwrap();
    for key in redis.command(&["KEYS", "*"]).unwrap().texts() {
        let kind = redis.command(&["TYPE", &key]).unwrap().text().unwrap();
        let value = match kind.as_str() {
            "string" => redis.command(&["GET", &key]).unwrap().text().into_iter().collect(),
            "zset" => redis.command(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).unwrap().texts(),
            // It ran out meanwhile.
            "none" => Vec::new(),
            other => panic!("{key} is a {other}"),
        };
        all.extend(format!("{key}={}\n", value.join(",")).into_bytes());
    }
    all
}

/// The files below a folder, except the one that operators read their token from.
fn files_in(folder: &std::path::Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.extend(files_in(&entry.path()));
        } else if kind.is_file() && entry.file_name() != "operator.token" {
            all.extend(std::fs::read(entry.path()).unwrap());
        }
    }
    all
}

/// Searches everywhere; the agent's id stands for what would be found.
fn assert_nothing_found(scene: &Scene, planted: &Planted, agent: &Agent, log_too: bool) -> usize {
    let mut places = vec![
        ("the database", Postgres::shared().unwrap().pg_dump(&scene.database).unwrap().into()),
        ("Redis", all_of(scene.shared.redis())),
    ];
    let logs = scene.nodes.iter().map(|node| node.log().clone()).collect::<String>();
    places.extend(log_too.then(|| ("the logs", logs.into_bytes())));
    let mut searched = 0;
    for (name, bytes) in &places {
        let (id, found) = (agent.id.to_string(), planted.found_in(bytes));
        assert!(letters(bytes).contains(&id), "{name} does not know the agent: {}", letters(bytes));
        assert!(found.is_empty(), "in {name}: {found:?}");
        searched += bytes.len();
    }
    for node in &scene.nodes {
        let bytes = files_in(&node.data());
        let found = planted.found_in(&bytes);
        assert!(found.is_empty(), "in a node's data: {found:?}");
        searched += bytes.len();
    }
    searched
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_lets_an_agent_in_is_kept_or_logged_readably() {
    let options = RedisOptions {
        snapshots: true,
        config: vec!["rdbcompression no".to_owned()],
        users: vec![Pushes::Tracking.user()],
        ..Default::default()
    };
    let redis = Redis::start(options).unwrap();
    let url = format!("redis://edgeward:{PASSWORD}@{}", redis.address());
    let scene = Scene::start(2, Shared::Single(redis), |plan| {
        plan.set("EDGE_REDIS_URL", url)
            .set("EDGE_REDIS_TIMEOUT_MS", PATIENCE_MS)
            .set("EDGE_LOG_FILTER", "trace")
    });
    let scene = scene.await;
    let mut planted = Planted::default();
    for (name, text) in [
        ("the owners' secret", owner::SECRET),
        ("the password at Redis", PASSWORD),
        ("the password at the database", scene::PASSWORD),
        ("the KEK", &("5f".repeat(16) + &"a7".repeat(16))),
    ] {
        planted.add(name, text);
    }
    planted.forms("the KEK's bytes", &[[0x5f; 16], [0xa7; 16]].concat());
    for node in &scene.nodes {
        let token = std::fs::read_to_string(node.data().join("admin/operator.token")).unwrap();
        planted.add("an operator's token", token.trim());
    }

    let mut agents = Vec::new();
    for at in 0..6 {
        let (here, there) = (&scene.nodes[at % 2], &scene.nodes[(at + 1) % 2]);
        // A code that is used, and one that is not.
        let (plan, unused) = (Enrolment::default(), Enrolment::default().start(here).await);
        let started = plan.start(here).await;
        for code in [&started.enroll_code, &unused.enroll_code] {
            planted.add("a code", code);
            planted.add("a code", &code.replace('-', ""));
            planted.add("a code", &code.replace('-', "").to_lowercase());
        }
        let answer = Enrolment::complete(here, &plan.completion(&started)).await.expect(200);
        let mut agent = Agent::of(here, answer.json(), plan.device);
        planted.add("an agent's secret", agent.secret.expose());
        planted.add("a JWT", &agent.jwt.clone());
        agent.refresh(there).await;
        planted.add("a JWT", &agent.jwt);
        planted.add("a JWT's signature", agent.jwt.rsplit('.').next().unwrap());
        for _ in 0..3 {
            let session = agent.session(here).await;
            planted.session(&agent, &session);
            let request = || agent.signed("GET", "/v1/x").in_session(&session);
            request().send(there).await.expect(200);
            request().swapped_body("another").send(there).await.refused("signature_invalid");
            let replay = request();
            replay.send(there).await.expect(200);
            replay.send(here).await.refused("nonce_replayed");
            let extend = agent.call("/agent/session/extend", &json!({})).in_session(&session);
            extend.send(there).await.expect(200);
            if at % 3 > 0 {
                let stream = Stream::open(&scene.upstream, request(), there).await;
                let end = agent.call("/agent/session/end", &json!({})).in_session(&session);
                end.send(here).await.expect(204);
                stream.cut().await;
            }
        }
        // Of no use, and told to whoever reads logs: a secret where none belongs.
        let misplaced = agent.signed("GET", "/v1/x").header_secret().send(here).await;
        misplaced.refused("credentials_missing");
        agents.push(agent);
    }
    let searched = assert_nothing_found(&scene, &planted, &agents[0], false);
    for (at, agent) in agents.iter().enumerate().skip(1) {
        assert_eq!(change(&scene.nodes[at % 2], agent, "block").await.0, 200);
        agent.signed("GET", "/v1/x").send(&scene.nodes[0]).await;
    }
    let mut plan = Enrolment::default();
    plan.start["agent_id"] = json!(agents[0].id);
    let anew = Agent::enroll_as(&scene.nodes[1], plan).await;
    planted.add("an agent's secret", anew.secret.expose());
    planted.session(&anew, &anew.session(&scene.nodes[0]).await);
    let searched = searched + assert_nothing_found(&scene, &planted, &agents[0], true);
    proof(
        "secrets searched for in the database, in Redis, in logs at their most talkative and in data folders",
        format!("{} forms in {searched} bytes, 0 found", planted.0.len()),
    );
}
