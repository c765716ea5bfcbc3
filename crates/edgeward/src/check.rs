//! `edgeward check`: are these settings fit for production?

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use edgeward_config::{Finding, Kek as KekSetting, Level, Profile, Sources};
use edgeward_keys::Kek;

use crate::exit;
use crate::settings::{SettingArgs, now_ms};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  edgeward check --profile production --config edgeward.toml
  edgeward check --json

Exit codes: 0 nothing would stop the start (warnings may be printed); 1 something would;
2 the settings cannot be read.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Judge by this profile, whatever EDGE_PROFILE says
    #[arg(long, value_enum)]
    profile: Option<ProfileName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileName {
    Development,
    Production,
}

pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let sources = match args.settings.sources() {
        Ok(sources) => sources,
        Err(faults) => return exit::unusable(faults),
    };
    let profile = args.profile.map(|profile| match profile {
        ProfileName::Development => Profile::Development,
        ProfileName::Production => Profile::Production,
    });
    let mut findings = edgeward_config::judge(&sources, profile, now_ms());
    findings.extend(kek_fault(&sources));
    let fatal = findings.iter().any(|finding| finding.level == Level::Error);
    if args.json {
        match serde_json::to_string_pretty(&findings) {
            Ok(text) => println!("{text}"),
            Err(error) => return exit::failed(error),
        }
    } else {
        print_table(&findings);
    }
    if fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The form of a key is the key crate's to judge; a start would.
fn kek_fault(sources: &Sources) -> Option<Finding> {
    let loaded = edgeward_config::load(sources, now_ms()).ok()?;
    let read = match &loaded.config.kek {
        KekSetting::File(path) => Kek::from_file(path),
        KekSetting::Env { value, .. } => Kek::from_text(value.expose()),
        // It is made at the first start.
        KekSetting::Generated(_) => return None,
    };
    let fault = read.err()?;
    Some(Finding {
        setting: "EDGE_KEK".to_owned(),
        level: Level::Error,
        found: fault.to_string(),
        expected: "32 random bytes: raw, or 64 hex digits, or 44 characters of base64".to_owned(),
        what_to_do: "Make one with: openssl rand -hex 32".to_owned(),
    })
}

fn print_table(findings: &[Finding]) {
    if findings.is_empty() {
        println!("ok: nothing to say against these settings");
        return;
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(["", "setting", "found", "expected", "what to do"]);
    for finding in findings {
        let level = match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        table.add_row([
            level,
            &finding.setting,
            &finding.found,
            &finding.expected,
            &finding.what_to_do,
        ]);
    }
    println!("{table}");
}
