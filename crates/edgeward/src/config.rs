//! `edgeward config`: the settings in force.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Table;

use crate::exit;
use crate::settings::SettingArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  edgeward config
  edgeward config --config edgeward.toml --json

Exit codes: 0 the settings are usable; 2 they are not, and every fault is listed.")]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ConfigArgs) -> ExitCode {
    let loaded = match args.settings.load() {
        Ok(loaded) => loaded,
        Err(faults) => return exit::unusable(faults),
    };
    if args.json {
        return match serde_json::to_string_pretty(&loaded.effective) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => exit::failed(error),
        };
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["setting", "value", "from"]);
    for row in &loaded.effective {
        table.add_row([row.setting.clone(), row.value.clone(), row.origin.to_string()]);
    }
    println!("{table}");
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    ExitCode::SUCCESS
}
