//! `edgeward status`: how the edge of this machine fares.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Table;
use edgeward_admin::AdminClient;
use serde_json::{Value, json};

use crate::exit;
use crate::operators::socket_path;
use crate::settings::SettingArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Asks the running edge over the operators' socket in its data folder.

Examples:
  edgeward status
  edgeward status --data-dir /var/lib/edgeward --json

Exit codes: 0 ready; 1 running and not ready; 2 the settings are unusable; 3 no edge was reached.")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: StatusArgs) -> ExitCode {
    let loaded = match args.settings.load() {
        Ok(loaded) => loaded,
        Err(faults) => return exit::unusable(faults),
    };
    let socket = socket_path(&loaded.config);
    let client = AdminClient::new(&socket);
    let answers = async { Ok((client.get("/readyz").await?, client.get("/status").await?)) };
    let ((ready, readiness), (_, status)) = match answers.await {
        Ok(answers) => answers,
        Err(error) => return unreached(&error, &socket),
    };
    if args.json {
        println!("{:#}", json!({"readiness": readiness, "status": status}));
    } else {
        print_table(&readiness, &status);
    }
    if ready.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn unreached(error: &edgeward_admin::ClientError, socket: &std::path::Path) -> ExitCode {
    eprintln!("error: {error}");
    eprintln!("no edge was reached at {}: is it running with this data folder?", socket.display());
    ExitCode::from(exit::NETWORK)
}

fn print_table(readiness: &Value, status: &Value) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let checks = readiness.get("checks").and_then(Value::as_array).into_iter().flatten();
    for check in checks {
        let ok = check.get("ok") == Some(&Value::Bool(true));
        table.add_row([
            if ok { "ok" } else { "NOT OK" }.to_owned(),
            text(check.get("name")),
            text(check.get("detail")),
        ]);
    }
    for (name, value) in status.as_object().into_iter().flatten() {
        table.add_row([String::new(), name.clone(), text(Some(value))]);
    }
    println!("{table}");
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
