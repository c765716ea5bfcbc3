use super::*;
use crate::kek::Kek;
use crate::testing::{FixedClock, MemoryRows, NoEntropy, kek, sealer, system};

const SECRET: &[u8] = b"ewk_planted-secret-that-must-not-show";
const AGENT: &[u8] = &[3; 16];

async fn load(rows: &MemoryRows, kek: &Kek) -> Result<Sealer, KeysError> {
    Sealer::load(rows, kek, &FixedClock, system()).await
}

#[tokio::test]
async fn what_is_sealed_opens_after_a_restart() {
    let rows = MemoryRows::default();
    let sealed = sealer(&rows).await.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap();
    let again = sealer(&rows).await;
    let opened = again.open(Purpose::AgentSecret, AGENT, 4, &sealed).unwrap();
    assert_eq!(&*opened, SECRET);
    assert_eq!(rows.data.lock().unwrap().len(), 1);
    let empty = again.seal(Purpose::Snapshot, b"", 0, b"").unwrap();
    assert!(again.open(Purpose::Snapshot, b"", 0, &empty).unwrap().is_empty());
}

#[tokio::test]
async fn it_opens_as_what_it_was_sealed_as_and_nothing_else() {
    let sealer = sealer(&MemoryRows::default()).await;
    let sealed = sealer.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap();
    let open = |purpose, id: &[u8], version| sealer.open(purpose, id, version, &sealed);
    assert!(open(Purpose::AgentSecret, AGENT, 4).is_ok());
    assert_eq!(open(Purpose::SigningKey, AGENT, 4).unwrap_err(), KeysError::Sealed);
    assert_eq!(open(Purpose::Snapshot, AGENT, 4).unwrap_err(), KeysError::Sealed);
    assert_eq!(open(Purpose::AgentSecret, &[4; 16], 4).unwrap_err(), KeysError::Sealed);
    assert_eq!(open(Purpose::AgentSecret, &AGENT[..15], 4).unwrap_err(), KeysError::Sealed);
    assert_eq!(open(Purpose::AgentSecret, AGENT, 5).unwrap_err(), KeysError::Sealed);
}

#[tokio::test]
async fn any_changed_bit_and_any_cut_is_refused() {
    let sealer = sealer(&MemoryRows::default()).await;
    let sealed = sealer.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap();
    assert_eq!(sealed.0.len(), 1 + 16 + 12 + SECRET.len() + 16);
    for at in 0..sealed.0.len() {
        for bit in 0..8 {
            let mut altered = sealed.clone();
            altered.0[at] ^= 1 << bit;
            let fault = sealer.open(Purpose::AgentSecret, AGENT, 4, &altered).unwrap_err();
            // The data key's id follows the format's byte.
            let unknown = matches!(fault, KeysError::UnknownDataKey(_));
            assert_eq!(unknown, (1..17).contains(&at), "bit {bit} of byte {at}: {fault}");
        }
    }
    for length in 0..sealed.0.len() {
        let cut = Sealed(sealed.0[..length].to_vec());
        assert!(sealer.open(Purpose::AgentSecret, AGENT, 4, &cut).is_err(), "{length} bytes");
    }
}

/// A second data key, as a later one would stand in the store.
async fn add_data_key(rows: &MemoryRows) -> [u8; 16] {
    let row = new_data_key(DataKeyUse::AtRest, &kek(1), &FixedClock, &*system()).await.unwrap();
    let id = row.id;
    rows.data.lock().unwrap().push(row);
    id
}

#[tokio::test]
async fn the_newest_data_key_seals_and_older_ones_still_open() {
    let rows = MemoryRows::default();
    let old = sealer(&rows).await.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap();
    let newest = add_data_key(&rows).await;
    let sealer = sealer(&rows).await;
    assert_eq!(&*sealer.open(Purpose::AgentSecret, AGENT, 4, &old).unwrap(), SECRET);
    let new = sealer.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap();
    assert_eq!(new.0[1..17], newest);
    // The other data key is there, and it is not the one.
    let mut moved = old.clone();
    moved.0[1..17].copy_from_slice(&newest);
    let fault = sealer.open(Purpose::AgentSecret, AGENT, 4, &moved).unwrap_err();
    assert_eq!(fault, KeysError::Sealed);
}

#[tokio::test]
async fn another_kek_is_told_by_both_fingerprints() {
    let rows = MemoryRows::default();
    drop(load(&rows, &kek(1)).await.unwrap());
    let fault = load(&rows, &kek(2)).await.unwrap_err();
    let (stored, offered) = (kek(1).fingerprint(), kek(2).fingerprint());
    let text = fault.to_string();
    assert!(text.contains(&stored) && text.contains(&offered), "{text}");
    assert_eq!(fault, KeysError::WrongKek { stored, offered });
    assert_eq!(rows.data.lock().unwrap().len(), 1, "no second key is made");
}

#[tokio::test]
async fn a_damaged_data_key_stops_the_start() {
    let rows = MemoryRows::default();
    drop(sealer(&rows).await);
    rows.data.lock().unwrap()[0].wrapped.0[20] ^= 1;
    assert!(matches!(load(&rows, &kek(1)).await, Err(KeysError::DataKey(_))));
    // Claiming to be of this KEK is not enough either.
    let rows = MemoryRows::default();
    drop(load(&rows, &kek(2)).await.unwrap());
    rows.data.lock().unwrap()[0].kek = kek(1).fingerprint();
    assert!(matches!(load(&rows, &kek(1)).await, Err(KeysError::DataKey(_))));
}

#[tokio::test]
async fn two_first_starts_at_once_agree() {
    let rows = MemoryRows::for_two_starts();
    let (kek_one, kek_two) = (kek(1), kek(1));
    let (one, other) = tokio::join!(load(&rows, &kek_one), load(&rows, &kek_two));
    let (one, other) = (one.unwrap(), other.unwrap());
    let sealed = one.seal(Purpose::AgentSecret, AGENT, 1, SECRET).unwrap();
    assert_eq!(&*other.open(Purpose::AgentSecret, AGENT, 1, &sealed).unwrap(), SECRET);
    let sealed = other.seal(Purpose::AgentSecret, AGENT, 1, SECRET).unwrap();
    assert_eq!(&*one.open(Purpose::AgentSecret, AGENT, 1, &sealed).unwrap(), SECRET);
}

#[tokio::test]
async fn each_sealing_has_a_nonce_of_its_own_and_none_happens_without_randomness() {
    let rows = MemoryRows::default();
    let mut sealer = sealer(&rows).await;
    let one = sealer.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap();
    let other = sealer.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap();
    assert_ne!(one.0[17..29], other.0[17..29]);
    sealer.entropy = Arc::new(NoEntropy);
    let fault = sealer.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap_err();
    assert!(matches!(fault, KeysError::Entropy(_)));
    let none = MemoryRows::default();
    let start = Sealer::load(&none, &kek(1), &FixedClock, Arc::new(NoEntropy)).await;
    assert!(start.is_err() && none.data.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_dummy_is_as_long_as_a_secret_and_opens() {
    let sealer = sealer(&MemoryRows::default()).await;
    let secret = edgeward_wire::AgentSecret::from_random(&[1; 32]);
    let real = sealer.seal(Purpose::AgentSecret, AGENT, 1, secret.expose().as_bytes()).unwrap();
    assert_eq!(sealer.dummy.0.len(), real.0.len());
    assert!(sealer.open(Purpose::AgentSecret, &DUMMY_ID, 0, &sealer.dummy).is_ok());
    sealer.dummy_open();
}

#[tokio::test]
async fn the_plaintext_shows_nowhere() {
    let rows = MemoryRows::default();
    let sealer = sealer(&rows).await;
    let sealed = sealer.seal(Purpose::AgentSecret, AGENT, 4, SECRET).unwrap();
    let shows =
        |bytes: &[u8]| bytes.windows(8).any(|window| SECRET.windows(8).any(|part| part == window));
    assert!(shows(SECRET), "the search finds what is there");
    assert!(!shows(&sealed.0));
    let fault = sealer.open(Purpose::Snapshot, AGENT, 4, &sealed).unwrap_err();
    for text in
        [format!("{sealer:?}"), format!("{sealed:?}"), format!("{fault:?}"), fault.to_string()]
    {
        assert!(!shows(text.as_bytes()), "{text}");
    }
    assert_eq!(format!("{sealer:?}"), "Sealer(1 data keys)");
}
