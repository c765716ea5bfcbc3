//! From raw settings to one validated [`Config`], or to all of their faults at once.
//!
//! Settings come from flags, the environment, a TOML file and the profile's defaults, in this order of precedence. One table
//! (`table`) says all there is to say about each: its name, form, defaults, rule and mark. Parsing, the reference page
//! ([`reference_markdown`]), the rows of `edgeward config` ([`EffectiveRow`]) and the findings of `edgeward check` ([`judge`]) come from it.
//!
//! Nothing here reads the clock; files are read only where a setting names one. No message, row or debug print holds a secret's value.

mod build;
mod config;
mod file;
mod finding;
mod form;
mod load;
mod nearest;
mod reference;
mod resolve;
mod routes;
mod rules;
mod setting;
mod sources;
mod stores;
mod table;
mod url;
mod value;
mod view;

pub use edgeward_wire::SecretText;

pub use config::{
    Agent, Auth, BodySignature, Config, Database, DeviceProof, Identity, JwtAlg, Kek, ListenUrl,
    Log, LogFormat, Owner, OwnerKeys, PostgresConfig, Profile, Rate, RedisConfig, RedisNode,
    RedisServers, RouteConfig, Timeouts, Tls, Upstream,
};
pub use finding::{Faults, Finding, Level};
pub use load::{EffectiveRow, Loaded, judge, load, load_with};
pub use reference::reference_markdown;
pub use resolve::Origin;
pub use sources::{Files, LocalFiles, Sources};
