//! One instance of every refusal.

use crate::limit::gcra::Rate;
use crate::read::bearer::JwtFault;
use crate::rejection::{Dependency, Rejection, UpstreamFault};

/// Lists instances, and stops compiling when the type gets a variant that is not listed.
macro_rules! one_of_each {
    ($(#[$doc:meta])* $name:ident: $type:ident { $($pattern:pat => $instance:expr,)* }) => {
        $(#[$doc])*
        pub fn $name() -> Vec<$type> {
            fn listed(value: &$type) {
                match value { $($pattern => {})* }
            }
            let all = vec![$($instance,)*];
            all.iter().for_each(listed);
            all
        }
    };
}

one_of_each! {
    /// Every fault of a JWT.
    faults: JwtFault {
        JwtFault::Form => JwtFault::Form,
        JwtFault::Header => JwtFault::Header,
        JwtFault::Claims => JwtFault::Claims,
        JwtFault::UnknownKey => JwtFault::UnknownKey,
        JwtFault::Algorithm => JwtFault::Algorithm,
        JwtFault::Signature => JwtFault::Signature,
        JwtFault::Expired => JwtFault::Expired,
        JwtFault::NotYetValid => JwtFault::NotYetValid,
        JwtFault::Issuer => JwtFault::Issuer,
        JwtFault::Audience => JwtFault::Audience,
        JwtFault::Subject => JwtFault::Subject,
        JwtFault::Epoch => JwtFault::Epoch,
        JwtFault::Role => JwtFault::Role,
    }
}

one_of_each! {
    /// Everybody who could not be asked.
    dependencies: Dependency {
        Dependency::Database => Dependency::Database,
        Dependency::Sessions => Dependency::Sessions,
        Dependency::Nonces => Dependency::Nonces,
        Dependency::Keys => Dependency::Keys,
        Dependency::OwnerKeys => Dependency::OwnerKeys,
        Dependency::BodyMemory => Dependency::BodyMemory,
    }
}

one_of_each! {
    /// Everything that goes wrong behind the edge.
    upstream_faults: UpstreamFault {
        UpstreamFault::Connect => UpstreamFault::Connect,
        UpstreamFault::Broken => UpstreamFault::Broken,
        UpstreamFault::ConnectTimeout => UpstreamFault::ConnectTimeout,
        UpstreamFault::FirstByteTimeout => UpstreamFault::FirstByteTimeout,
        UpstreamFault::Withheld => UpstreamFault::Withheld,
    }
}

one_of_each! {
    /// Every refusal, with one fault and one dependency for all.
    plain: Rejection {
        Rejection::Malformed(_) => Rejection::Malformed("a form".into()),
        Rejection::BodyTooSlow => Rejection::BodyTooSlow,
        Rejection::TargetAmbiguous(_) => Rejection::TargetAmbiguous("a dot segment"),
        Rejection::CredentialsMissing => Rejection::CredentialsMissing,
        Rejection::HeaderSecretRefused => Rejection::HeaderSecretRefused,
        Rejection::DeploymentAddress => Rejection::DeploymentAddress,
        Rejection::RouteAddress => Rejection::RouteAddress,
        Rejection::AgentAddress => Rejection::AgentAddress,
        Rejection::BackingOff { .. } => Rejection::BackingOff { retry_after_ms: 250 },
        Rejection::ClockOutside { .. } => Rejection::ClockOutside { skew_ms: -70_000 },
        Rejection::UnderFloor => Rejection::UnderFloor,
        Rejection::Stale => Rejection::Stale,
        Rejection::Starting { .. } => Rejection::Starting { retry_after_ms: 500 },
        Rejection::ClockUnsteady { .. } => Rejection::ClockUnsteady { retry_after_ms: 500 },
        Rejection::Draining => Rejection::Draining,
        Rejection::SessionRequired => Rejection::SessionRequired,
        Rejection::SessionUnknown => Rejection::SessionUnknown,
        Rejection::SessionExpired => Rejection::SessionExpired,
        Rejection::SessionOfAnother => Rejection::SessionOfAnother,
        Rejection::SessionEpoch => Rejection::SessionEpoch,
        Rejection::BodyTooLarge => Rejection::BodyTooLarge,
        Rejection::UnknownAgent => Rejection::UnknownAgent,
        Rejection::WrongSignature => Rejection::WrongSignature,
        Rejection::BodySignatureRefused => Rejection::BodySignatureRefused,
        Rejection::LegacySecret => Rejection::LegacySecret,
        Rejection::Blocked => Rejection::Blocked,
        Rejection::Retired => Rejection::Retired,
        Rejection::RouteUnknown => Rejection::RouteUnknown,
        Rejection::TokenRequired => Rejection::TokenRequired,
        Rejection::TokenInvalid(_) => Rejection::TokenInvalid(JwtFault::Form),
        Rejection::OwnerTokenRequired => Rejection::OwnerTokenRequired,
        Rejection::OwnerTokenInvalid(_) => Rejection::OwnerTokenInvalid(JwtFault::Form),
        Rejection::OwnerNotAllowed(_) => Rejection::OwnerNotAllowed("outside the grant"),
        Rejection::EnrollCode => Rejection::EnrollCode,
        Rejection::DeviceProofMissing => Rejection::DeviceProofMissing,
        Rejection::DeviceProofWrong => Rejection::DeviceProofWrong,
        Rejection::ScopeMissing => Rejection::ScopeMissing,
        Rejection::NonceRequired => Rejection::NonceRequired,
        Rejection::NonceReplayed => Rejection::NonceReplayed,
        Rejection::RateLimited { .. } => Rejection::RateLimited {
            retry_after_ms: 100,
            rate: Rate { per_sec: 10, burst: 20 },
        },
        Rejection::TooManyStreams => Rejection::TooManyStreams,
        Rejection::NonceMemoryFull => Rejection::NonceMemoryFull,
        Rejection::Unavailable(_) => Rejection::Unavailable(Dependency::Database),
    }
}

/// Every refusal, with every fault and every dependency.
pub fn one_of_each() -> Vec<Rejection> {
    let mut all: Vec<_> = plain()
        .into_iter()
        .filter(|one| !matches!(one, Rejection::TokenInvalid(_) | Rejection::Unavailable(_)))
        .collect();
    all.extend(faults().into_iter().map(Rejection::TokenInvalid));
    all.extend(dependencies().into_iter().map(Rejection::Unavailable));
    all
}
