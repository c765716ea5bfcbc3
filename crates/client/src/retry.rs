//! From a refusal to what is done about it: the protocol's advice, with every repetition counted.

use std::time::Duration;

use edgeward_wire::{Advice, Code};
use http::Method;

use crate::{Refusal, Settings};

/// What to do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Hand it to the caller.
    GiveUp,
    /// Correct the clock and sign again.
    CorrectClock {
        /// The edge's clock, epoch milliseconds.
        server_time_ms: u64,
    },
    /// Start a session and sign again.
    StartSession,
    /// Refresh the JWT and sign again.
    RefreshToken,
    /// Sign again with a new nonce.
    SignAgain,
    /// Wait, and sign again.
    Wait(Duration),
}

/// What one call has done about refusals already: each remedy once, waits up to a number of tries.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    clock: bool,
    session: bool,
    token: bool,
    nonce: bool,
    waits: u32,
}

impl Spent {
    /// Chooses, and counts what it chose.
    pub(crate) fn decide(
        &mut self,
        refusal: &Refusal,
        method: &Method,
        settings: &Settings,
    ) -> Action {
        match refusal.advice() {
            Advice::FixRequest | Advice::Sign | Advice::RenewSecret | Advice::Stop => {
                Action::GiveUp
            }
            Advice::CorrectClock => match refusal.server_time_ms {
                Some(server_time_ms) => {
                    once(&mut self.clock, Action::CorrectClock { server_time_ms })
                }
                None => Action::GiveUp,
            },
            Advice::StartSession => once(&mut self.session, Action::StartSession),
            Advice::RefreshToken => once(&mut self.token, Action::RefreshToken),
            // Nobody else draws this agent's nonces: a copy of this very request was admitted, and an
            // upstream may have served it.
            Advice::NewNonce
                if refusal.code == Some(Code::NonceReplayed) && !is_idempotent(method) =>
            {
                Action::GiveUp
            }
            Advice::NewNonce => once(&mut self.nonce, Action::SignAgain),
            Advice::Wait | Advice::Retry => self.wait(refusal, settings),
            Advice::RetryIfIdempotent if is_idempotent(method) => self.wait(refusal, settings),
            Advice::RetryIfIdempotent => Action::GiveUp,
        }
    }

    fn wait(&mut self, refusal: &Refusal, settings: &Settings) -> Action {
        let own = Duration::from_millis(250).saturating_mul(1 << self.waits.min(6));
        let wait = refusal.retry_after_ms.map_or(own, Duration::from_millis);
        self.waits = self.waits.saturating_add(1);
        if self.waits >= settings.tries || wait > settings.max_wait {
            return Action::GiveUp;
        }
        Action::Wait(wait)
    }
}

fn once(spent: &mut bool, action: Action) -> Action {
    if std::mem::replace(spent, true) { Action::GiveUp } else { action }
}

/// RFC 9110, section 9.2.2, of the methods that agents use.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS].contains(method)
}

#[cfg(test)]
mod tests {
    use edgeward_wire::{Problem, TraceId};

    use super::*;

    fn refusal(code: Code) -> Refusal {
        let mut problem = Problem::new(code, TraceId::from_random([1; 16]));
        problem.retry_after_ms = Some(100);
        problem.server_time_ms = Some(5);
        Refusal::from_problem(code.as_str().to_owned(), code.status().as_u16(), Some(problem))
    }

    /// What each code leads to, the first and the second time, for GET and for POST.
    #[test]
    fn every_code_leads_to_what_the_protocol_advises_and_remedies_are_tried_once() {
        use Action::{CorrectClock, GiveUp, RefreshToken, SignAgain, StartSession, Wait};
        let wait = Wait(Duration::from_millis(100));
        for code in Code::ALL {
            let (get, get_again, post) = match code {
                Code::TimestampOutsideWindow => {
                    (CorrectClock { server_time_ms: 5 }, GiveUp, CorrectClock { server_time_ms: 5 })
                }
                Code::SessionRequired | Code::SessionInvalid => {
                    (StartSession, GiveUp, StartSession)
                }
                Code::NonceRequired => (SignAgain, GiveUp, SignAgain),
                Code::NonceReplayed => (SignAgain, GiveUp, GiveUp),
                Code::TokenRequired | Code::TokenInvalid => (RefreshToken, GiveUp, RefreshToken),
                Code::RateLimited
                | Code::BackingOff
                | Code::TooManyStreams
                | Code::DependencyUnavailable
                | Code::Starting
                | Code::Draining => (wait, wait, wait),
                Code::UpstreamFailed | Code::UpstreamTimeout => (wait, wait, GiveUp),
                Code::RequestMalformed
                | Code::TargetAmbiguous
                | Code::CredentialsMissing
                | Code::SignatureInvalid
                | Code::EnrollCodeInvalid
                | Code::DeviceProofInvalid
                | Code::AgentBlocked
                | Code::AddressNotAllowed
                | Code::ScopeMissing
                | Code::OwnerNotAllowed
                | Code::RouteUnknown
                | Code::NothingPrepared
                | Code::BodyTooLarge => (GiveUp, GiveUp, GiveUp),
            };
            let settings = Settings::default();
            let mut spent = Spent::default();
            let mut decide = |method: &Method| spent.decide(&refusal(*code), method, &settings);
            assert_eq!(decide(&Method::GET), get, "{code}");
            assert_eq!(decide(&Method::GET), get_again, "{code} again");
            let first = Spent::default().decide(&refusal(*code), &Method::POST, &settings);
            assert_eq!(first, post, "{code} for POST");
        }
    }

    #[test]
    fn waiting_ends_after_the_allowed_tries_and_never_exceeds_the_bound() {
        let settings = Settings { tries: 3, ..Settings::default() };
        let mut spent = Spent::default();
        let mut decide = |refusal: &Refusal| spent.decide(refusal, &Method::POST, &settings);
        assert_ne!(decide(&refusal(Code::Starting)), Action::GiveUp);
        assert_ne!(decide(&refusal(Code::Draining)), Action::GiveUp);
        assert_eq!(decide(&refusal(Code::RateLimited)), Action::GiveUp);
        let mut long = refusal(Code::BackingOff);
        long.retry_after_ms = Some(30_001);
        let action = Spent::default().decide(&long, &Method::GET, &Settings::default());
        assert_eq!(action, Action::GiveUp);
    }

    #[test]
    fn the_idempotent_methods_are_repeated_and_the_others_are_not() {
        let settings = Settings::default();
        for (method, repeated) in [
            ("GET", true),
            ("HEAD", true),
            ("PUT", true),
            ("DELETE", true),
            ("OPTIONS", true),
            ("POST", false),
            ("PATCH", false),
            ("CONNECT", false),
            ("LOCK", false),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let action =
                Spent::default().decide(&refusal(Code::UpstreamFailed), &method, &settings);
            assert_eq!(action != Action::GiveUp, repeated, "{method}");
        }
    }

    #[test]
    fn without_the_edges_clock_nothing_is_corrected() {
        let mut bare = refusal(Code::TimestampOutsideWindow);
        bare.server_time_ms = None;
        let action = Spent::default().decide(&bare, &Method::GET, &Settings::default());
        assert_eq!(action, Action::GiveUp);
    }
}
