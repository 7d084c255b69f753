//! From `main` to an exit code. In: a program's name, arguments and `run`. Out: 0, 1 or 2.
//! Gives every flag its environment variable, starts logging, signals and the tokio runtime.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches as _};
use tokio::runtime::Runtime;

use crate::exit;
use crate::logging::{self, Logging};
use crate::shutdown::Shutdown;
use crate::version;

/// Threads of the tokio runtime: the processes are sized for small machines.
const WORKERS: usize = 2;
/// What blocking calls may still take after `run` is over.
const RUNTIME_STOPS_WITHIN: Duration = Duration::from_millis(200);
/// What the environment variable of a flag begins with.
const PREFIX: &str = "AKRI_MQTT_";

/// What a binary is called, and how much it logs unless `RUST_LOG` says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    name: &'static str,
    log: &'static str,
}

impl Program {
    /// A program of this name that logs at `info`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, log: "info" }
    }

    /// The `RUST_LOG` directives that hold when `RUST_LOG` is not set.
    #[must_use]
    pub const fn log(mut self, directives: &'static str) -> Self {
        self.log = directives;
        self
    }
}

/// Runs a program: the whole body of a binary's `main`.
///
/// `A` may derive `clap::Args` or `clap::Parser`; `--log-format`, `--version` and for every long
/// flag the variable `AKRI_MQTT_<FLAG>` are added to it. `run` gets the arguments and a
/// [`Shutdown`] that SIGTERM and SIGINT set off. An error with [`crate::UsageError`] in its chain
/// gives exit code 2, any other one 1.
///
/// ```no_run
/// #[derive(clap::Args)]
/// struct Arguments {}
///
/// fn main() -> std::process::ExitCode {
///     let program = akri_mqtt_runtime::Program::new("akri-mqtt-example");
///     akri_mqtt_runtime::main_with(program, |_: Arguments, shutdown| async move {
///         shutdown.triggered().await;
///         Ok(())
///     })
/// }
/// ```
pub fn main_with<A, R, F>(program: Program, run: R) -> ExitCode
where
    A: Args,
    R: FnOnce(A, Shutdown) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let (arguments, logging) = match parse::<A>(program, std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => return usage_exit(&error),
    };
    let directives = logging::directives(std::env::var("RUST_LOG").ok(), program.log);
    if let Err(error) = logging::init(logging.log_format, &directives) {
        eprintln!("error: {error}");
        return ExitCode::from(exit::USAGE);
    }
    match start(run, arguments) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}

/// The command line of a program: its own arguments, logging, version, and a variable per flag.
#[must_use]
pub fn command<A: Args>(program: Program) -> Command {
    let command = Command::new(program.name);
    // The later one of two says what the program is about: that is the program itself.
    let command = A::augment_args(Logging::augment_args(command))
        .name(program.name)
        .version(version::long());
    with_variables(command)
}

/// Parses `arguments`, the first of which is the program's own path.
///
/// # Errors
/// As clap; `--help` and `--version` are errors, too, which print and exit with 0.
pub fn parse<A: Args>(
    program: Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(A, Logging), clap::Error> {
    let mut command = command::<A>(program);
    let mut matches: ArgMatches = command.try_get_matches_from_mut(arguments)?;
    let logging =
        Logging::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    let own = A::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
    Ok((own, logging))
}

fn with_variables(command: Command) -> Command {
    command
        .mut_args(|argument| {
            let Some(long) = argument.get_long().map(str::to_owned) else {
                return argument;
            };
            if argument.get_env().is_some() {
                return argument;
            }
            let variable = format!("{PREFIX}{}", long.to_ascii_uppercase().replace('-', "_"));
            match argument.get_action() {
                // Manifests set such variables to 1 or leave them empty as often as to true.
                ArgAction::SetTrue => argument
                    .value_parser(FalseyValueParser::new())
                    .env(variable),
                // One value a line: neither topic filters nor URLs have lines.
                ArgAction::Append if argument.get_value_delimiter().is_none() => {
                    argument.env(variable).value_delimiter('\n')
                }
                _ => argument.env(variable),
            }
        })
        .mut_subcommands(with_variables)
}

fn start<A, R, F>(run: R, arguments: A) -> anyhow::Result<()>
where
    R: FnOnce(A, Shutdown) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime: Runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::from_signals()?;
        run(arguments, shutdown).await
    });
    runtime.shutdown_timeout(RUNTIME_STOPS_WITHIN);
    result
}

fn usage_exit(error: &clap::Error) -> ExitCode {
    // A closed standard output is no reason for another code.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() {
        exit::USAGE
    } else {
        exit::DONE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::LogFormat;

    /// Does what the test wants
    #[derive(Debug, clap::Parser)]
    struct Arguments {
        /// Where state is kept
        #[arg(long, default_value = "/var/lib/akri-mqtt")]
        state_dir: String,
        /// Has a variable of its own
        #[arg(
            long,
            env = "DISCOVERY_HANDLERS_DIRECTORY",
            default_value = "/var/lib/akri"
        )]
        directory: String,
        #[command(subcommand)]
        command: Option<Sub>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Demo {
            #[arg(long, default_value_t = 5)]
            devices: u16,
            #[arg(long)]
            filter: Vec<String>,
        },
    }

    const PROGRAM: Program = Program::new("akri-mqtt-test");

    fn parsed(arguments: &[&str]) -> Result<(Arguments, Logging), clap::Error> {
        parse(
            PROGRAM,
            std::iter::once(&"x").chain(arguments).map(OsString::from),
        )
    }

    #[test]
    fn every_flag_has_its_variable() {
        let command = command::<Arguments>(PROGRAM);
        let variable = |command: &Command, id: &str| {
            let argument = command.get_arguments().find(|a| a.get_id() == id).unwrap();
            argument.get_env().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(variable(&command, "state_dir"), "AKRI_MQTT_STATE_DIR");
        assert_eq!(variable(&command, "log_format"), "AKRI_MQTT_LOG_FORMAT");
        assert_eq!(
            variable(&command, "directory"),
            "DISCOVERY_HANDLERS_DIRECTORY"
        );
        let demo = command.find_subcommand("demo").unwrap();
        assert_eq!(variable(demo, "devices"), "AKRI_MQTT_DEVICES");
        let filters = demo.get_arguments().find(|a| a.get_id() == "filter");
        assert_eq!(filters.unwrap().get_value_delimiter(), Some('\n'));
        command.debug_assert();
    }

    #[test]
    fn logging_is_accepted_before_and_after_a_subcommand() {
        for line in [
            ["--log-format", "json", "demo"],
            ["demo", "--log-format", "json"],
        ] {
            let (arguments, logging) = parsed(&line).unwrap();
            assert_eq!(logging.log_format, LogFormat::Json);
            assert!(matches!(
                arguments.command,
                Some(Sub::Demo { devices: 5, .. })
            ));
        }
    }

    #[test]
    fn version_names_program_version_and_commit() {
        let error = parsed(&["--version"]).unwrap_err();
        assert!(!error.use_stderr());
        assert_eq!(
            error.to_string(),
            format!("akri-mqtt-test {}\n", version::long())
        );
    }

    #[test]
    fn help_begins_with_what_the_program_is_for() {
        let mut command = command::<Arguments>(PROGRAM);
        for help in [command.render_help(), command.render_long_help()] {
            let help = help.to_string();
            assert!(help.starts_with("Does what the test wants\n"), "{help}");
        }
    }

    #[test]
    fn unknown_flag_is_usage() {
        let error = parsed(&["--stat-dir", "/x"]).unwrap_err();
        assert!(error.use_stderr());
        assert!(error.to_string().contains("--state-dir"), "{error}");
    }
}
