//! How runs begin and end.

use edgeward_core::time::WallMs;

use crate::durable::{Continuity, LastRun, Sealed};

/// All of [`Continuity`], on a store that is new.
///
/// # Panics
/// When a promise is broken.
pub async fn continuity(store: &impl Continuity) {
    let begin = || async { store.begin_run().await.unwrap() };
    let share = || async { store.share_run().await.unwrap() };
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

    // A run that shares its memory takes over what was left, and says so to whoever follows it.
    store.write_mark(WallMs(4_000)).await.unwrap();
    assert_eq!(share().await, LastRun::Unclean { mark: WallMs(4_000) });
    assert_eq!(share().await, LastRun::Shared);
    for _ in 0..2 {
        assert_eq!(begin().await, LastRun::Shared, "up to the first mark of its own");
    }
    store.write_mark(WallMs(5_000)).await.unwrap();
    assert_eq!(begin().await, LastRun::Unclean { mark: WallMs(5_000) });
    let (snapshot, mark) = (Sealed(vec![4]), Some(WallMs(5_000)));
    store.end_run(snapshot.clone()).await.unwrap();
    assert_eq!(share().await, LastRun::Clean { snapshot, mark });
    assert_eq!(share().await, LastRun::Shared);
    assert_eq!(begin().await, LastRun::Shared);
    // A run that left a snapshot without a mark has begun to remember by itself as well.
    store.end_run(Sealed(vec![5])).await.unwrap();
    assert_eq!(
        begin().await,
        LastRun::Shared,
        "it admitted nothing, and holds no more than before"
    );
}

/// The same for a store that no run has used: one that shares finds nothing before it.
///
/// # Panics
/// When a promise is broken.
pub async fn continuity_shared_first(store: &impl Continuity) {
    assert_eq!(store.share_run().await.unwrap(), LastRun::None);
    assert_eq!(store.share_run().await.unwrap(), LastRun::Shared);
}
