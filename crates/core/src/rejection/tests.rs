//! The table as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use edgeward_wire::Code;

use super::*;
use crate::tests::golden;
use crate::tests::refusals::{faults, one_of_each, upstream_faults};

#[test]
fn the_table_is_the_golden_one() {
    let mut rows: Vec<String> = one_of_each()
        .iter()
        .map(|rejection| {
            let Spec { code, reason, severity, counts, recorded, runbook } = rejection.spec();
            format!(
                "{:24} {:28} {} {:17} {:8} {:6} {:8} {:9} {}",
                code.as_str(),
                reason,
                code.status().as_u16(),
                format!("{:?}", code.advice()),
                format!("{severity:?}"),
                if counts { "counts" } else { "-" },
                if recorded { "recorded" } else { "-" },
                rejection.retry_after_ms().map_or("-".to_owned(), |ms| format!("{ms} ms")),
                runbook.unwrap_or("-"),
            )
        })
        .collect();
    rows.extend(upstream_faults().into_iter().map(|fault| {
        let code = fault.code();
        format!(
            "{:24} {:28} {} {:17?} {:8} {:6} {:8} {:9} -",
            code.as_str(),
            fault.reason(),
            code.status().as_u16(),
            code.advice(),
            "-",
            "-",
            "-",
            "-"
        )
    }));
    rows.sort();
    let mut table = String::from(
        "code                     reason                       st. advice            severity counts recorded wait      runbook\n",
    );
    for row in rows {
        writeln!(table, "{}", row.trim_end()).unwrap();
    }
    golden::compare("rejections.txt", &table);
}

#[test]
fn reasons_are_distinct_labels() {
    let mut seen = BTreeSet::new();
    let reasons = one_of_each()
        .iter()
        .map(|rejection| rejection.spec().reason)
        .chain(upstream_faults().into_iter().map(UpstreamFault::reason))
        .collect::<Vec<_>>();
    for reason in reasons {
        assert!(seen.insert(reason), "{reason} stands twice");
        assert!(
            reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{reason} is no label"
        );
    }
}

#[test]
fn reasons_of_one_code_answer_alike() {
    let mut by_code: BTreeMap<Code, BTreeSet<bool>> = BTreeMap::new();
    for rejection in one_of_each() {
        let code = rejection.spec().code;
        by_code.entry(code).or_default().insert(rejection.retry_after_ms().is_some());
        // The whole answer follows from the code, the wait and the detail; a detail stands only
        // where the request is wrong in itself.
        let may_tell =
            matches!(code, Code::RequestMalformed | Code::TargetAmbiguous | Code::OwnerNotAllowed);
        assert!(may_tell || rejection.detail().is_none(), "{rejection:?}");
    }
    for (code, waits) in by_code {
        assert_eq!(waits.len(), 1, "{code}: some of its reasons have a wait and some have none");
    }
}

#[test]
fn a_wait_is_told_with_429_and_503_and_with_nothing_else() {
    for rejection in one_of_each() {
        let code = rejection.spec().code;
        let waits = matches!(code.status().as_u16(), 429 | 503);
        assert_eq!(rejection.retry_after_ms().is_some(), waits, "{rejection:?}");
        assert_ne!(rejection.retry_after_ms(), Some(0), "{rejection:?}");
    }
    for zero in [
        Rejection::BackingOff { retry_after_ms: 0 },
        Rejection::Starting { retry_after_ms: 0 },
        Rejection::ClockUnsteady { retry_after_ms: 0 },
        Rejection::RateLimited { retry_after_ms: 0, rate: Rate { per_sec: 1, burst: 1 } },
    ] {
        assert_eq!(zero.retry_after_ms(), Some(1));
    }
}

#[test]
fn only_a_failure_to_prove_who_one_is_counts_against_the_source() {
    for rejection in one_of_each() {
        let Spec { code, counts, .. } = rejection.spec();
        let expected = match code {
            Code::SignatureInvalid
            | Code::NonceReplayed
            | Code::EnrollCodeInvalid
            | Code::DeviceProofInvalid => true,
            Code::TokenInvalid => matches!(rejection, Rejection::OwnerTokenInvalid(_)),
            Code::RequestMalformed
            | Code::TargetAmbiguous
            | Code::CredentialsMissing
            | Code::TimestampOutsideWindow
            | Code::SessionRequired
            | Code::SessionInvalid
            | Code::NonceRequired
            | Code::TokenRequired
            | Code::AgentBlocked
            | Code::AddressNotAllowed
            | Code::ScopeMissing
            | Code::OwnerNotAllowed
            | Code::RouteUnknown
            | Code::NothingPrepared
            | Code::BodyTooLarge
            | Code::RateLimited
            | Code::BackingOff
            | Code::TooManyStreams
            | Code::UpstreamFailed
            | Code::UpstreamTimeout
            | Code::DependencyUnavailable
            | Code::Starting
            | Code::Draining => false,
        };
        assert_eq!(counts, expected, "{rejection:?}");
    }
    for fault in faults() {
        assert!(Rejection::OwnerTokenInvalid(fault).spec().counts);
        assert!(!Rejection::TokenInvalid(fault).spec().counts);
    }
}

#[test]
fn every_code_has_a_reason() {
    let produced: BTreeSet<Code> = one_of_each()
        .iter()
        .map(|rejection| rejection.spec().code)
        .chain(upstream_faults().into_iter().map(UpstreamFault::code))
        .collect();
    // The pick-up of a prepared secret is not offered yet.
    let missing: Vec<_> = Code::ALL.iter().filter(|code| !produced.contains(code)).collect();
    assert_eq!(missing, [&Code::NothingPrepared]);
}

#[test]
fn an_outage_is_never_the_callers_fault() {
    for rejection in one_of_each() {
        if matches!(rejection, Rejection::Unavailable(_) | Rejection::NonceMemoryFull) {
            assert_eq!(rejection.spec().code.status().as_u16(), 503, "{rejection:?}");
            assert!(!rejection.spec().counts);
        }
    }
}
