//! From a code to credentials.

use std::path::Path;

use edgeward_wire::api::{EnrollChallenge, EnrollChallenged, EnrollComplete, Enrolled};
use edgeward_wire::enroll::enroll_message;
use edgeward_wire::{Challenge, EnrollCode, OwnerId};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Agent;
use super::exchange::{assemble, json_headers, transmit};
use crate::credentials::{Credentials, KeptKey, Token};
use crate::retry::{Action, Spent};
use crate::target::{EdgeUrl, Target};
use crate::{DeviceKey, Error, Result, Settings, entropy, file, response};

/// What an enrolment needs.
#[derive(Debug)]
pub struct Enrollment {
    /// The edge, base path included.
    pub edge_url: EdgeUrl,
    /// The code that the owner has passed on; good for one enrolment.
    pub code: EnrollCode,
    /// The deployment's audience, which is signed before the edge could tell it.
    pub audience: String,
    /// If given, nothing is enrolled unless the code is this owner's.
    pub expect_owner: Option<OwnerId>,
    /// A name for people.
    pub alias: Option<String>,
    /// What the agent runs on.
    pub platform: Option<String>,
    /// The agent's key, and where it is kept; `None` makes one that is kept with the credentials.
    pub device_key: Option<(DeviceKey, KeptKey)>,
}

impl Enrollment {
    /// An enrolment with the audience `edgeward`, a new key and nothing else said.
    ///
    /// # Errors
    /// When URL or code have another form.
    pub fn new(edge_url: &str, code: &str) -> Result<Self> {
        Ok(Self {
            edge_url: EdgeUrl::parse(edge_url)?,
            code: EnrollCode::parse(code).map_err(|error| Error::Invalid(error.to_string()))?,
            audience: "edgeward".to_owned(),
            expect_owner: None,
            alias: None,
            platform: None,
            device_key: None,
        })
    }
}

impl Agent {
    /// Enrols, and keeps the credentials in `path`, replacing what stands there.
    ///
    /// That the file can be written is made sure of before the code is used up.
    ///
    /// # Errors
    /// [`Error::Refused`] with `enroll_code_invalid` when code or audience are wrong;
    /// [`Error::OwnerMismatch`]; the other variants as they say.
    pub async fn enroll(enrollment: Enrollment, path: &Path, settings: Settings) -> Result<Self> {
        let pending = file::Pending::open(path)?;
        let (credentials, device) = complete(enrollment, &settings).await?;
        pending.replace(&credentials.to_json()?)?;
        Self::assemble(credentials, device, settings, Some(path.to_owned()))
    }

    /// Enrols, and leaves it to the caller to keep the [`credentials`](Self::credentials).
    ///
    /// # Errors
    /// As [`enroll`](Self::enroll).
    pub async fn enroll_unkept(enrollment: Enrollment, settings: Settings) -> Result<Self> {
        let (credentials, device) = complete(enrollment, &settings).await?;
        Self::assemble(credentials, device, settings, None)
    }
}

async fn complete(enrollment: Enrollment, settings: &Settings) -> Result<(Credentials, DeviceKey)> {
    if enrollment.edge_url.is_exposed() && !settings.allow_plain_http {
        return Err(Error::Invalid(
            "over plain HTTP the agent's secret could be read on the way; use https".to_owned(),
        ));
    }
    let http = settings.http()?;
    let post = Post { http: &http, settings, edge_url: &enrollment.edge_url };
    let asked = EnrollChallenge { enroll_code: enrollment.code.canonical().to_owned() };
    let challenged: EnrollChallenged = post.send("/agent/enroll/challenge", &asked).await?;
    if let Some(expected) = &enrollment.expect_owner
        && *expected != challenged.owner_user_id
    {
        return Err(Error::OwnerMismatch {
            expected: expected.to_string(),
            found: challenged.owner_user_id.to_string(),
        });
    }
    let (device, kept) = match enrollment.device_key {
        Some(given) => given,
        None => {
            let key = DeviceKey::generate()?;
            let pem = KeptKey::Pem(key.pem().clone().into());
            (key, pem)
        }
    };
    let proof = Proof {
        code: &enrollment.code,
        audience: &enrollment.audience,
        alias: enrollment.alias,
        platform: enrollment.platform,
    };
    let body = proof.sign(&device, &challenged.challenge)?;
    let asked_at_ms = settings.clock.now_ms();
    let enrolled: Enrolled = post.send("/agent/enroll/complete", &body).await?;
    if enrolled.audience != enrollment.audience
        || enrolled.owner_user_id != challenged.owner_user_id
    {
        return Err(Error::Protocol(
            "enrolled for another audience or owner than was signed for".to_owned(),
        ));
    }
    let credentials = credentials_of(enrolled, enrollment.edge_url, kept, asked_at_ms);
    Ok((credentials, device))
}

struct Proof<'a> {
    code: &'a EnrollCode,
    audience: &'a str,
    alias: Option<String>,
    platform: Option<String>,
}

impl Proof<'_> {
    fn sign(self, device: &DeviceKey, challenge: &Challenge) -> Result<EnrollComplete> {
        let public = device.public();
        let message = enroll_message(self.audience, self.code, challenge, &public.thumbprint());
        Ok(EnrollComplete {
            enroll_code: self.code.canonical().to_owned(),
            public_key: public.jwk(),
            signature: device.sign(message.as_bytes())?,
            alias: self.alias,
            platform: self.platform,
        })
    }
}

fn credentials_of(
    enrolled: Enrolled,
    edge_url: EdgeUrl,
    device_key: KeptKey,
    asked_at_ms: u64,
) -> Credentials {
    Credentials {
        edge_url,
        audience: enrolled.audience,
        agent_id: enrolled.agent_id,
        agent_secret: enrolled.agent_secret,
        secret_version: enrolled.secret_version,
        secret_received_at_ms: asked_at_ms,
        secret_expires_at_ms: enrolled.secret_expires_at_ms,
        owner_user_id: enrolled.owner_user_id,
        scopes: enrolled.scopes,
        device_key,
        token: Some(Token::new(enrolled.agent_jwt, asked_at_ms, enrolled.jwt_expires_in_sec)),
        session: None,
    }
}

/// Unsigned calls, for those who have no secret yet.
struct Post<'a> {
    http: &'a reqwest::Client,
    settings: &'a Settings,
    edge_url: &'a EdgeUrl,
}

impl Post<'_> {
    async fn send<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T> {
        let (url, _) = self.edge_url.locate(&Target::parse(target)?)?;
        let body: bytes::Bytes =
            serde_json::to_vec(body).map_err(|error| Error::Protocol(error.to_string()))?.into();
        let mut spent = Spent::default();
        loop {
            let request = assemble(Method::POST, url.clone(), json_headers(), body.clone());
            let answer = transmit(self.http, self.settings, request).await?;
            let refusal = match response::refusal(answer).await? {
                Ok(answer) => return response::own_json(answer).await,
                Err(refusal) => refusal,
            };
            match spent.decide(&refusal, &Method::POST, self.settings) {
                Action::Wait(wait) => self.settings.clock.wait(entropy::jittered(wait)?).await,
                // Nothing here is signed by a secret: no other remedy applies.
                Action::GiveUp
                | Action::CorrectClock { .. }
                | Action::StartSession
                | Action::RefreshToken
                | Action::SignAgain => return Err(refusal.into()),
            }
        }
    }
}
