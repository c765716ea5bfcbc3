use edgeward_core::limit::gcra;
use edgeward_core::time::WallMs;
use edgeward_services::{Redis, RedisOptions, Reply};
use edgeward_store::conformance::Forge;
use proptest::prelude::*;
use std::sync::OnceLock;

use super::*;
use edgeward_core::time::MonoMs;

/// Some moment of a server's clock.
pub(super) const START_MS: u64 = 1_800_000_000_123;

/// Decides one request after another at times that the test names, with the steps of the scripts.
const DECIDE: &str = concat!(
    include_str!("../scripts/gcra.lua"),
    "local state, out = parse_state(false), {}
     for at = 1, #ARGV, 3 do
       local now_ms = tonumber(ARGV[at])
       local wait = decide(state, now_ms, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
       -- What is kept can be read back.
       state = parse_state(print_state(state))
       out[#out + 1] = wait or 0
     end
     return { out, print_state(state), life_ms(state, tonumber(ARGV[#ARGV - 2])) }"
);

fn redis() -> &'static Redis {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(|| Redis::start(RedisOptions::default()).unwrap())
}

/// Waits, 0 where it passes.
fn by_core(steps: &[(u64, Rate)]) -> (Vec<u64>, gcra::State) {
    let mut state = gcra::State::default();
    let decide = |(now_ms, rate): &(u64, Rate)| match gcra::decide(state, *now_ms, *rate) {
        gcra::Verdict::Allow(next) => {
            state = next;
            0
        }
        gcra::Verdict::Refuse { state: next, retry_after_ms } => {
            state = next;
            retry_after_ms
        }
    };
    (steps.iter().map(decide).collect(), state)
}

fn by_node(steps: &[(u64, Rate)]) -> (Vec<u64>, State) {
    let mut state = State::default();
    let waits = steps.iter().map(|(now, rate)| state.decide(*now, *rate).unwrap_or(0)).collect();
    (waits, state)
}

fn by_script(steps: &[(u64, Rate)]) -> (Vec<u64>, State, u64) {
    let args: Vec<String> = steps
        .iter()
        .flat_map(|(now, rate)| [*now, interval_ns(*rate), tolerance_ns(*rate)])
        .map(|number| number.to_string())
        .collect();
    let mut command = vec!["EVAL", DECIDE, "0"];
    command.extend(args.iter().map(String::as_str));
    let Reply::Array(answer) = redis().command(&command).unwrap() else { panic!("no list") };
    let number = |text: String| text.parse().unwrap();
    let waits = answer[0].texts().into_iter().map(number).collect();
    let state = State::parse(&answer[1].text().unwrap()).unwrap();
    (waits, state, answer[2].text().unwrap().parse().unwrap())
}

fn steps() -> impl Strategy<Value = Vec<(u64, Rate)>> {
    let rates = prop_oneof![1u32..50, Just(3), Just(999), Just(1_000_000)];
    let pace = prop_oneof![0u64..3, 0u64..400, 0u64..100_000];
    (rates, 1u32..40, proptest::collection::vec(pace, 1..80)).prop_map(|(per_sec, burst, pace)| {
        let rate = Rate { per_sec, burst };
        let mut now = START_MS;
        let mut step = |ms| {
            now += ms;
            (now, rate)
        };
        pace.into_iter().map(&mut step).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_script_the_node_and_the_core_decide_alike(steps in steps()) {
        let (core, core_state) = by_core(&steps);
        let (node, state) = by_node(&steps);
        let (script, script_state, life_ms) = by_script(&steps);
        prop_assert_eq!(&core, &node);
        prop_assert_eq!(&core, &script);
        prop_assert_eq!(state, script_state);
        // Redis forgets a state when the core calls it idle, and not before.
        let now = steps.last().unwrap().0;
        prop_assert!(gcra::is_idle(core_state, now + life_ms));
        prop_assert!(life_ms <= 1 || !gcra::is_idle(core_state, now + life_ms - 2));
    }
}

#[test]
fn a_burst_of_an_odd_rate_is_exact() {
    let rate = Rate { per_sec: 3, burst: 30 };
    let steps = vec![(START_MS, rate); 31];
    let (waits, ..) = by_script(&steps);
    assert_eq!(waits.iter().filter(|wait| **wait == 0).count(), 30);
    assert_eq!(by_core(&steps).0, waits);
}

#[test]
fn a_state_is_read_as_it_is_written_and_nothing_else_is() {
    let text = "1800000000123:999999:1800000000999:3:1800000000500";
    let state = State::parse(text).unwrap();
    assert_eq!(state.arrival_ns, 1_800_000_000_123_999_999);
    assert_eq!(state.penalty(), [1_800_000_000_999, 3, 1_800_000_000_500]);
    for odd in ["", "1:2:3:4", "1:2:3:4:5:6", "1:2:3:-4:5", "a:2:3:4:5", "1:2:3:4294967296:5"] {
        assert_eq!(State::parse(odd), None, "{odd}");
    }
    assert_eq!(State::parse("99999999999999999999:0:0:0:0"), None);
}

#[test]
fn one_more_at_a_small_rate_would_be_too_many() {
    let of = |per_sec, burst| allowance(Rate { per_sec, burst });
    assert_eq!([of(1, 1), of(1, 20), of(5, 7)], [0, 0, 0]);
    assert_eq!(of(10, 20), 2);
    assert_eq!(of(1_000, 100), 12);
    assert_eq!(of(u32::MAX, u32::MAX), u32::MAX / SHARE);
}

#[test]
fn the_later_of_two_views_counts() {
    let rate = Rate { per_sec: 10, burst: 2 };
    let mut fresh = State::default();
    fresh.advance(START_MS, rate, 5);
    let mut struck = State::default();
    while struck.decide(START_MS, rate).is_none() {}
    let (arrival_ns, penalty) = (fresh.arrival_ns, struck.penalty());
    let mut merged = struck;
    merged.merge(fresh);
    fresh.merge(struck);
    assert_eq!(merged, fresh);
    assert_eq!((merged.arrival_ns, merged.penalty()), (arrival_ns, penalty));
}

const RATE: Rate = Rate { per_sec: 100, burst: 80 };
const MONO: MonoMs = MonoMs(1_000);

fn claim() -> edgeward_core::nonce::Claim {
    Forge::new(1, RATE).claim(WallMs(START_MS), None)
}

/// A ledger that has heard of the agent.
fn ledger() -> std::sync::Arc<Ledger> {
    let ledger = Ledger::new();
    assert_eq!(ledger.decide(&claim(), START_MS, MONO), Local::Ask);
    ledger.batch_of(&claim()).confirmed(&[State::default()], START_MS, MONO);
    ledger
}

fn granted(ledger: &Ledger) -> u32 {
    let mut granted = 0;
    while ledger.decide(&claim(), START_MS, MONO) == Local::Granted {
        granted += 1;
    }
    granted
}

#[test]
fn no_more_is_granted_than_may_stay_untold_and_all_of_it_is_told() {
    let ledger = ledger();
    let most = allowance(RATE);
    assert_eq!((granted(&ledger), most), (most, 10));
    assert_eq!(ledger.decide(&claim(), START_MS, MONO), Local::Ask);
    let batches = ledger.due();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].dues.iter().map(|due| due.granted).sum::<u32>(), most);
    // On the way it is as untold as before.
    assert_eq!(granted(&ledger), 0);
    let mut state = State::default();
    state.advance(START_MS, RATE, most);
    batches.into_iter().for_each(|batch| batch.confirmed(&[state], START_MS, MONO));
    assert_eq!(granted(&ledger), most);
    assert_eq!(ledger.due().len(), 1);
}

#[test]
fn what_was_not_confirmed_is_told_again() {
    let ledger = ledger();
    let most = granted(&ledger);
    drop(ledger.due());
    assert_eq!(granted(&ledger), 0);
    let batches = ledger.due();
    assert_eq!(batches[0].dues[0].granted, most);
    // Also along with a claim that asks.
    drop(batches);
    assert_eq!(ledger.batch_of(&claim()).dues[0].granted, most);
}

#[test]
fn a_view_that_is_used_up_refuses_and_tells_of_the_violation() {
    let ledger = ledger();
    let mut state = State::default();
    state.advance(START_MS, RATE, RATE.burst);
    ledger.batch_of(&claim()).confirmed(&[state], START_MS, MONO);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let Local::Limited { rate: RATE, retry_after_ms } = ledger.decide(&claim(), START_MS, MONO)
        else {
            panic!("granted")
        };
        waits.push(retry_after_ms);
    }
    assert_eq!(waits, [10, 20, 40]);
    let batches = ledger.due();
    assert_eq!(batches[0].dues[0].granted, 0);
    assert_eq!(batches[0].dues[0].view.penalty(), [START_MS + 40, 3, START_MS]);
}

#[test]
fn who_is_idle_is_forgotten_unless_something_is_owed() {
    let ledger = ledger();
    let sweep_all = |now| (0..64).for_each(|turn| ledger.sweep(turn, now));
    sweep_all(MONO.plus(59_999));
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger.decide(&claim(), START_MS, MONO), Local::Granted);
    sweep_all(MONO.plus(60_000));
    assert_eq!(ledger.len(), 1);
    let batch = ledger.due().remove(0);
    batch.confirmed(&[State::default()], START_MS, MONO);
    sweep_all(MONO.plus(60_000));
    assert_eq!(ledger.len(), 0);
}
