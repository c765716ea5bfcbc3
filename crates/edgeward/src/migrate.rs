//! `edgeward migrate`: the tables of a PostgreSQL database.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;
use edgeward_config::{Database, Faults, Loaded, SecretText};
use edgeward_postgres::{Applied, DatabaseUrl, SchemaName, migrate, migrations_sql};

use crate::exit;
use crate::settings::{SettingArgs, now_ms};

#[derive(Debug, Args)]
#[command(after_help = "\
Logs in as a role that may make roles and schemas, or as edgeward_migrate; the edge itself then logs in
as edgeward_edge. Any number may run at once, and edges may go on serving meanwhile.

Examples:
  edgeward migrate --print > edgeward.sql
  EDGE_DATABASE_URL_FILE=/run/secrets/owner-url edgeward migrate
  edgeward migrate --database-url postgres://postgres@127.0.0.1:5432/postgres

Exit codes: 0 the tables are up to date; 1 the database was not reached, or refused; 2 the command line
or the settings are wrong.")]
pub(crate) struct MigrateArgs {
    /// Print the SQL, for whoever applies it with tools of their own; nothing is connected to
    #[arg(long)]
    print: bool,
    /// The database (EDGE_DATABASE_URL); a password in it can be seen by others on this machine
    #[arg(long, value_name = "URL")]
    database_url: Option<SecretText>,
    /// The schema of the tables (EDGE_DB_SCHEMA)
    #[arg(long, value_name = "NAME")]
    schema: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
}

pub(crate) async fn run(args: MigrateArgs) -> ExitCode {
    let loaded = match load(&args) {
        Ok(loaded) => loaded,
        Err(faults) => return exit::unusable(faults),
    };
    let schema = match schema(&loaded) {
        Ok(schema) => schema,
        Err(error) => return exit::unusable(error),
    };
    if args.print {
        return print(&migrations_sql(&schema));
    }
    match loaded.config.database {
        Database::Sqlite(path) => print(&format!(
            "nothing to do: the edge brings {} up to date by itself when it starts\n",
            path.display()
        )),
        Database::Postgres(postgres) => {
            match migrate(&DatabaseUrl::new(postgres.url.expose()), &schema).await {
                Ok(applied) => print(&report(&applied)),
                Err(error) => exit::failed(error),
            }
        }
    }
}

/// The settings, of which only the database's count here. Whether the others are fit for production
/// is for the edge to judge: whoever migrates need not have them.
fn load(args: &MigrateArgs) -> Result<Loaded, Faults> {
    let mut sources = args.settings.sources()?;
    let given = [
        ("EDGE_PROFILE", Some("development")),
        ("EDGE_DATABASE_URL", args.database_url.as_ref().map(SecretText::expose)),
        ("EDGE_DB_SCHEMA", args.schema.as_deref()),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
    sources.flags.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
    edgeward_config::load(&sources, now_ms())
}

/// The schema in force, also where no PostgreSQL is named.
fn schema(loaded: &Loaded) -> Result<SchemaName, impl std::fmt::Display + use<>> {
    let row = loaded.effective.iter().find(|row| row.setting == "EDGE_DB_SCHEMA");
    SchemaName::parse(row.map_or("", |row| &row.value))
}

fn report(applied: &[Applied]) -> String {
    if applied.is_empty() {
        return "nothing to do\n".to_owned();
    }
    applied.iter().map(|step| format!("applied {} {}\n", step.version, step.name)).collect()
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failed(format_args!("cannot write the output: {error}")),
    }
}
