//! A dump of the database gives nobody anything to come in with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::sync::Arc;

use edgeward_keys::{Kek, Purpose, Sealer, SystemEntropy};
use edgeward_store::clock::ManualClock;
use edgeward_store::conformance::Seeds;
use edgeward_store::durable::{Agents as _, Enrollments as _, Redeemed};
use edgeward_wire::{AgentSecret, EnrollCode};
use support::Database;

const KEK: [u8; 32] = *b"a KEK of 32 bytes, never written";

#[tokio::test]
async fn a_dump_holds_no_secret_no_code_and_no_key() {
    let database = Database::fresh().await;
    let store = database.open("node-1").await;
    let kek = Kek::from_text(&hex(&KEK)).unwrap();
    let clock = ManualClock::at(Seeds::now());
    let sealer = Sealer::load(&*store, &kek, &clock, Arc::new(SystemEntropy)).await.unwrap();

    let secret = AgentSecret::from_random(&[0xA7; 32]);
    let code = EnrollCode::from_random(0x1234_5678_9abc_u64.to_be_bytes());
    let mut row = Seeds::enrollment(1, "owner");
    row.code_hash = code.hash();
    store.start_enrollment(row, Seeds::started(1)).await.unwrap();
    let mut agent = Seeds::agent(1, 1);
    let id = agent.id;
    let text = secret.expose().to_owned();
    agent.secret.sealed =
        sealer.seal(Purpose::AgentSecret, id.as_bytes(), 1, text.as_bytes()).unwrap();
    let told = Seeds::completed(1);
    let done = store.redeem_code(&code.hash(), agent, None, told, Seeds::now()).await;
    assert_eq!(done, Ok(Redeemed::Done { epoch: 1 }));

    let dump = database.server.pg_dump(&database.admin).unwrap();
    assert!(dump.contains(&hex(&code.hash())), "the dump is of these rows");
    assert!(dump.contains(&id.to_string()), "the dump is of these rows");
    let code = code.shown();
    for planted in [text.as_bytes(), code.as_bytes(), code.replace('-', "").as_bytes(), &KEK] {
        let plain = String::from_utf8_lossy(planted).to_lowercase();
        let dump = dump.to_lowercase();
        assert!(!dump.contains(&plain), "{plain}");
        assert!(!dump.contains(&hex(planted)), "{plain} as bytes");
    }
    let agent = store.agent(id).await.unwrap().unwrap();
    let opened = sealer.open(Purpose::AgentSecret, id.as_bytes(), 1, &agent.secrets[0].sealed);
    assert_eq!(opened.unwrap().as_slice(), text.as_bytes(), "it is there, sealed");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
