//! What the nonce table takes of the heap, by an allocator that counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use edgeward_store::memory::nonces::{Inserted, NonceTable};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const NONCES: usize = 1_000_000;
const MIB: usize = 1 << 20;

// One test, so that nothing else allocates meanwhile.
#[test]
fn a_million_live_nonces_take_at_most_64_mib_while_they_grow_and_after() {
    let before = HEAP.current_usage();
    let table = NonceTable::new([3; 16], NONCES);
    let agent = [1; 16];
    let mut worst = 0;
    for number in 0..NONCES as u64 {
        let nonce = number.to_be_bytes();
        assert_eq!(table.insert(&agent, &nonce, 0, 120_000), Inserted::Fresh);
        if number >= 100_000 && number % 1_000 == 0 {
            worst = worst.max((HEAP.current_usage() - before) * 100 / number as usize);
        }
    }
    assert_eq!(table.live(119_999), NONCES);
    let grown = HEAP.peak_usage() - before;

    // The steady state: as many again for as many expired, in waves, so that expired entries are
    // always about.
    HEAP.reset_peak_usage();
    let mut number = NONCES as u64;
    for wave in 1..=4_u64 {
        let now = wave * 120_000;
        for _ in 0..NONCES {
            assert_eq!(table.insert(&agent, &number.to_be_bytes(), now, 120_000), Inserted::Fresh);
            number += 1;
        }
        assert_eq!(table.live(now), NONCES);
    }
    let steady = HEAP.peak_usage() - before;
    println!(
        "{NONCES} live nonces: peak while growing {grown} B, {} B each; peak in steady state {steady} B; \
         worst from 100,000 on {}.{:02} B each",
        grown / NONCES,
        worst / 100,
        worst % 100,
    );
    assert!(grown <= 64 * MIB, "growth included: {grown}");
    assert!(steady <= 64 * MIB, "steady: {steady}");
    assert!(grown <= 40 * NONCES, "more than 40 bytes a nonce: {grown}");
    assert!(worst <= 4_000, "more than 40 bytes a nonce on the way: {worst}");
}
