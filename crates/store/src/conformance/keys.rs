//! Signing keys and data keys.

use std::sync::Arc;

use edgeward_core::time::WallMs;
use serde_json::json;

use super::at_once;
use super::events::event;
use crate::durable::{
    DataKeyRow, DataKeyUse, Events, KeyPurpose, KeyRows, KeyStatus, Sealed, SigningKeyRow,
};
use crate::{Event, EventKind};

fn data_key(number: u8) -> DataKeyRow {
    DataKeyRow {
        id: [number; 16],
        used_for: DataKeyUse::AtRest,
        wrapped: Sealed(vec![number, 0, 255]),
        kek: format!("kek-{number}"),
        created_at: WallMs(1_000 + u64::from(number)),
    }
}

fn signing_key(number: u8, purpose: KeyPurpose, status: KeyStatus) -> SigningKeyRow {
    SigningKeyRow {
        kid: format!("kid-{purpose:?}-{number}"),
        purpose,
        alg: "EdDSA".into(),
        status,
        sealed: Sealed(vec![number; 40]),
        public_jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "n": number}),
        created_at: WallMs(2_000 + u64::from(number)),
    }
}

fn told(number: u8) -> [Event; 2] {
    [event(number, EventKind::JwtKeyPublished), event(number, EventKind::JwtKeyActivated)]
}

/// All of [`KeyRows`], on a store without any key or event.
///
/// # Panics
/// When a promise is broken.
pub async fn keys<S: KeyRows + Events + 'static>(store: Arc<S>) {
    assert_eq!(store.data_keys().await.unwrap(), []);
    // Many first starts keep one key, and all of them find that one afterwards.
    at_once(|number| {
        let (store, row) = (Arc::clone(&store), data_key(number as u8));
        async move { store.keep_first_data_key(row).await.unwrap() }
    })
    .await;
    let kept = store.data_keys().await.unwrap();
    assert!(matches!(&kept[..], [one] if *one == data_key(one.id[0])), "{kept:?}");
    store.keep_first_data_key(data_key(200)).await.unwrap();
    assert_eq!(store.data_keys().await.unwrap(), kept);
    // One of another use is kept beside it, once.
    let fleets = |number| DataKeyRow { used_for: DataKeyUse::Fleet, ..data_key(number) };
    for number in [201, 202] {
        store.keep_first_data_key(fleets(number)).await.unwrap();
    }
    let both: Vec<_> = kept.into_iter().chain([fleets(201)]).collect();
    assert_eq!(store.data_keys().await.unwrap(), both);

    for (purpose, status) in
        [(KeyPurpose::Agent, KeyStatus::Active), (KeyPurpose::Identity, KeyStatus::Next)]
    {
        let before = store.newest_events(1_000).await.unwrap();
        assert_eq!(store.signing_keys(purpose).await.unwrap(), []);
        at_once(|number| {
            let store = Arc::clone(&store);
            let row = signing_key(number as u8, purpose, status);
            let events = told(number as u8);
            async move { store.keep_first_signing_key(row, &events).await.unwrap() }
        })
        .await;
        let kept = store.signing_keys(purpose).await.unwrap();
        let [one] = &kept[..] else { panic!("{kept:?}") };
        let number = one.sealed.0[0];
        assert_eq!(*one, signing_key(number, purpose, status));
        // The key that is kept is told of, and none that is not.
        let mut expected: Vec<Event> = told(number).into_iter().rev().collect();
        expected.extend(before);
        assert_eq!(store.newest_events(1_000).await.unwrap(), expected);
        store.keep_first_signing_key(signing_key(200, purpose, status), &told(200)).await.unwrap();
        assert_eq!(store.signing_keys(purpose).await.unwrap(), kept);
        assert_eq!(store.newest_events(1_000).await.unwrap(), expected);
    }
}
