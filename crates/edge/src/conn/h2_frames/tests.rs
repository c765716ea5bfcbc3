use proptest::prelude::*;

use super::*;

const MAX_FRAME: u32 = 16_384;

fn frames() -> Frames {
    Frames::new(MAX_FRAME, 1000)
}

fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    bytes.resize(HEADER + payload, 0xee);
    bytes
}

#[test]
fn every_kind_of_idle_work_is_a_flood_when_it_passes_the_limit() {
    let kinds = [
        frame(RST_STREAM, 0, 4),
        frame(PING, 0, 8),
        frame(SETTINGS, 0, 0),
        frame(SETTINGS, 0, 6),
        frame(PRIORITY, 0, 5),
        frame(DATA, 0, 0),
        frame(DATA, PADDED, 1),
        frame(HEADERS, END_HEADERS, 0),
        frame(CONTINUATION, 0, 0),
        frame(0x77, 0, 0),
    ];
    for kind in kinds {
        let mut frames = frames();
        assert_eq!(frames.feed(&kind.repeat(1000), 5), Ok(()), "{kind:?}");
        assert_eq!(frames.feed(&kind, 5), Err(Fault::Flood), "{kind:?}");
    }
}

#[test]
fn kinds_are_counted_together() {
    let mut frames = frames();
    let mixed = [frame(PING, 0, 8), frame(RST_STREAM, 0, 4)].concat();
    assert_eq!(frames.feed(&mixed.repeat(500), 0), Ok(()));
    assert_eq!(frames.feed(&mixed, 0), Err(Fault::Flood));
}

#[test]
fn work_that_carries_something_is_not_counted() {
    let mut frames = frames();
    let busy = [
        frame(HEADERS, END_HEADERS, 30),
        frame(DATA, 0, 1),
        frame(DATA, END_STREAM, 0),
        frame(0x8, 0, 4),
    ]
    .concat();
    assert_eq!(frames.feed(&busy.repeat(5000), 0), Ok(()));
}

#[test]
fn the_window_slides() {
    let mut frames = frames();
    let pings = |count: usize| frame(PING, 0, 8).repeat(count);
    assert_eq!(frames.feed(&pings(600), 0), Ok(()));
    assert_eq!(frames.feed(&pings(400), 9_999), Ok(()));
    // The first 600 have left the window, the 400 have not.
    assert_eq!(frames.feed(&pings(600), 10_000), Ok(()));
    assert_eq!(frames.feed(&pings(1), 10_001), Err(Fault::Flood));
    let mut frames = self::frames();
    for second in 0..100 {
        assert_eq!(frames.feed(&pings(100), second * 1000), Ok(()));
    }
    assert_eq!(frames.feed(&pings(1), 99_999), Err(Fault::Flood));
    assert_eq!(self::frames().feed(&pings(1000), u64::MAX), Ok(()));
}

#[test]
fn frames_have_a_longest_length() {
    assert_eq!(frames().feed(&frame(DATA, 0, 16_384), 0), Ok(()));
    assert_eq!(frames().feed(&frame(DATA, 0, 16_385), 0), Err(Fault::FrameTooLong));
}

#[test]
fn a_head_is_owed_until_its_block_ends() {
    let mut frames = frames();
    assert!(frames.owes_head(), "no frame yet");
    for (bytes, owes) in [
        (&frame(SETTINGS, 0, 6)[..], false),
        (&frame(PING, 0, 8)[..4], true),
        (&frame(PING, 0, 8)[4..12], false),
        (&frame(PING, 0, 8)[12..], false),
        (&frame(HEADERS, 0, 3)[..], true),
        (&frame(CONTINUATION, END_HEADERS, 3)[..10], true),
        (&frame(CONTINUATION, END_HEADERS, 3)[10..], false),
        (&frame(HEADERS, END_HEADERS, 0)[..], false),
    ] {
        assert_eq!(frames.feed(bytes, 0), Ok(()));
        assert_eq!(frames.owes_head(), owes, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        kinds in prop::collection::vec((0_u8..12, any::<u8>(), 0_usize..40), 0..40),
        cuts in prop::collection::btree_set(0_usize..1000, 0..30),
    ) {
        let bytes: Vec<u8> = kinds.into_iter().flat_map(|(kind, flags, payload)| frame(kind, flags, payload)).collect();
        let new = || Frames::new(38, 8);
        let mut whole = new();
        let at_once = whole.feed(&bytes, 0);
        let mut pieces = new();
        let mut start = 0;
        let mut in_pieces = Ok(());
        for end in cuts.into_iter().filter(|&cut| cut < bytes.len()).chain([bytes.len()]) {
            in_pieces = in_pieces.and_then(|()| pieces.feed(&bytes[start..end], 0));
            start = end;
        }
        prop_assert_eq!(at_once, in_pieces);
        if at_once.is_ok() {
            prop_assert_eq!(whole.owes_head(), pieces.owes_head());
        }
    }
}
