//! How runs begin and end.

use edgeward_core::time::WallMs;

use crate::durable::{Continuity, LastRun, Sealed};

/// All of [`Continuity`], on a store that is new.
///
/// # Panics
/// When a promise is broken.
pub async fn continuity(store: &impl Continuity) {
    let begin = || async { store.begin_run().await.unwrap() };
    assert_eq!(begin().await, LastRun::None);
    assert_eq!(begin().await, LastRun::None, "the run before admitted nothing");

    // One that admitted nothing can hold sessions all the same.
    let snapshot = Sealed(vec![9]);
    store.end_run(snapshot.clone()).await.unwrap();
    assert_eq!(begin().await, LastRun::Clean { snapshot, mark: None });
    assert_eq!(begin().await, LastRun::None);

    // A mark never goes back, and outlives every end but a clean one.
    store.write_mark(WallMs(2_000)).await.unwrap();
    store.write_mark(WallMs(1_000)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(begin().await, LastRun::Unclean { mark: WallMs(2_000) });
    }
    store.write_mark(WallMs(2_001)).await.unwrap();
    assert_eq!(begin().await, LastRun::Unclean { mark: WallMs(2_001) });

    // A snapshot counts once: whoever took it and crashed has lost what it held.
    let snapshot = Sealed(vec![0, 1, 2, 255]);
    store.end_run(snapshot.clone()).await.unwrap();
    assert_eq!(begin().await, LastRun::Clean { snapshot, mark: Some(WallMs(2_001)) });
    assert_eq!(begin().await, LastRun::Unclean { mark: WallMs(2_001) });
    store.write_mark(WallMs(500)).await.unwrap();
    assert_eq!(begin().await, LastRun::Unclean { mark: WallMs(2_001) });

    // A mark after the end of a run belongs to a run that goes on: its snapshot is out of date.
    store.end_run(Sealed(vec![3])).await.unwrap();
    store.write_mark(WallMs(3_000)).await.unwrap();
    assert_eq!(begin().await, LastRun::Unclean { mark: WallMs(3_000) });

    // An empty snapshot is one.
    store.end_run(Sealed(Vec::new())).await.unwrap();
    let (snapshot, mark) = (Sealed(Vec::new()), Some(WallMs(3_000)));
    assert_eq!(begin().await, LastRun::Clean { snapshot, mark });
}
