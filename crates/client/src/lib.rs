//! The agent's side of Edgeward: enrol, hold a session, sign, call, stream.
//!
//! * [`Agent`] – an enrolled agent; calls renew what they need before they are signed
//! * [`Enrollment`] – from an owner's code to an agent
//! * [`Credentials`] – what an agent keeps, in one file that only its owner may read
//! * [`DeviceKey`] – the key that never leaves the machine
//! * [`EventStream`] and [`sse`] – server-sent events that come back after a drop
//! * [`Target`], [`EdgeUrl`] – where requests go, as the bytes that are signed
//! * [`Error`], [`Refusal`] – what went wrong and what to do about it
//!
//! What a refusal of the edge leads to is decided by the protocol's advice for its code, and by
//! nothing else: answers without `X-Edgeward-Code` are an upstream's and handed back untouched. A
//! request that is sent again is stamped and signed again, with a new nonce.
//!
//! # The cryptographic provider
//!
//! TLS runs on rustls, and the program chooses the provider: install one before the first
//! [`Agent`] is made, or making it panics. With aws-lc-rs that is
//! `rustls::crypto::aws_lc_rs::default_provider().install_default()`, once, at the start.
//!
//! # Example
//!
//! ```no_run
//! use edgeward_client::{Agent, Enrollment, Settings, StreamOptions};
//! use http::{HeaderMap, Method};
//!
//! # async fn example() -> edgeward_client::Result<()> {
//! let kept = std::path::Path::new("agent.json");
//! let enrollment = Enrollment::new("https://edge.example.com", "ABCD-EFGH-JKMN")?;
//! let agent = Agent::enroll(enrollment, kept, Settings::default()).await?;
//! // From now on: Agent::open(kept, Settings::default())
//!
//! agent.open_session().await?;
//! let answer = agent.call(Method::GET, "/v1/ping", HeaderMap::new(), "").await?;
//! println!("{}", answer.status());
//!
//! let mut events = agent.stream("/v1/events", StreamOptions::default())?;
//! while let Some(event) = events.next().await {
//!     println!("{}", event?.data);
//! }
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

mod agent;
pub mod clock;
mod credentials;
mod device;
mod entropy;
mod error;
mod file;
mod response;
mod retry;
mod settings;
mod sign;
pub mod sse;
mod stream;
mod target;

pub use agent::{Agent, Enrollment, Rotation};
pub use credentials::{Credentials, KeptKey, Session, Token};
pub use device::DeviceKey;
pub use edgeward_wire::SecretText;
pub use error::{Error, Refusal, Result};
pub use response::Response;
pub use settings::Settings;
pub use sign::{SignedBy, SignedRequest, StringSigned};
pub use sse::Event;
pub use stream::{EventStream, StreamOptions};
pub use target::{EdgeUrl, Target};
