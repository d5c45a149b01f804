//! The sources of settings, by precedence: flags, environment variables, the file of `--config`, defaults.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use hwacha_storage::StorageConfig;

use crate::error::CliError;

/// The key of the sections that configure object stores. No flag sets them.
const STORAGE: &str = "storage";

/// Parses the command line. A key of the `--config` file counts as a flag if neither the command line nor the
/// environment sets that flag. Example: `listen-on = "file"` in the file acts like `--listen-on=file`.
pub(crate) fn with_file(command: &mut Command, mut arguments: Vec<OsString>) -> Result<ArgMatches, CliError> {
    let matches = command.try_get_matches_from_mut(arguments.clone()).unwrap_or_else(|error| error.exit());
    let Some((name, chosen)) = matches.subcommand() else { return Ok(matches) };
    let Some(path) = chosen.try_get_one::<PathBuf>("config").ok().flatten() else { return Ok(matches) };
    let subcommand = command.find_subcommand(name).expect("it was parsed");
    for (key, value) in read(path)?.into_iter().filter(|(key, _)| key != STORAGE) {
        let flag = known(subcommand, path, &key)?;
        let source = chosen.value_source(&flag.replace('-', "_"));
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        match value {
            toml::Value::Boolean(true) => arguments.push(format!("--{flag}").into()),
            toml::Value::Boolean(false) => {}
            toml::Value::String(text) => arguments.push(format!("--{flag}={text}").into()),
            toml::Value::Integer(number) => arguments.push(format!("--{flag}={number}").into()),
            toml::Value::Float(number) => arguments.push(format!("--{flag}={number}").into()),
            toml::Value::Array(texts) if texts.iter().all(toml::Value::is_str) => {
                let texts = texts.iter().filter_map(toml::Value::as_str);
                arguments.extend(texts.map(|text| format!("--{flag}={text}").into()));
            }
            _ => {
                let message = format!("the value of \"{key}\" must be a text, a number, or true or false");
                return Err(CliError::ConfigFile { path: path.clone(), message });
            }
        }
    }
    command.try_get_matches_from_mut(arguments).map_err(|error| CliError::ConfigFile {
        path: path.clone(),
        message: error.to_string().trim_start_matches("error: ").lines().next().unwrap_or_default().to_owned(),
    })
}

/// The `[storage."…"]` sections of the `--config` file.
pub(crate) fn storage(config: Option<&Path>) -> Result<StorageConfig, CliError> {
    let Some(path) = config else { return Ok(StorageConfig::default()) };
    let Some(sections) = read(path)?.remove(STORAGE) else { return Ok(StorageConfig::default()) };
    let invalid = |message| CliError::ConfigFile { path: path.to_owned(), message };
    let sections = sections.try_into().map_err(|error: toml::de::Error| {
        invalid(format!("[{STORAGE}]: {}", error.to_string().trim_end().replace('\n', " ")))
    })?;
    StorageConfig::new(sections).map_err(invalid)
}

fn read(path: &Path) -> Result<toml::Table, CliError> {
    let text = std::fs::read_to_string(path).map_err(|source| CliError::ReadFile { path: path.to_owned(), source })?;
    text.parse().map_err(|error: toml::de::Error| CliError::ConfigFile {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// The flag that a key of the file sets. Keys may be written with `_` or `-`.
fn known(command: &Command, path: &Path, key: &str) -> Result<String, CliError> {
    let settable = |flag: &&str| !["config", "help", "version"].contains(flag);
    let flags: Vec<_> = command.get_arguments().filter_map(|argument| argument.get_long()).filter(settable).collect();
    let wanted = key.replace('_', "-");
    if flags.contains(&wanted.as_str()) {
        return Ok(wanted);
    }
    let near = flags.iter().min_by_key(|flag| difference(flag, &wanted));
    let message = match near {
        Some(near) => format!("there is no setting \"{key}\"; did you mean \"{near}\"?"),
        None => format!("there is no setting \"{key}\""),
    };
    Err(CliError::ConfigFile { path: path.to_owned(), message })
}

fn difference(a: &str, b: &str) -> usize {
    datafusion::common::utils::datafusion_strsim::levenshtein(a, b)
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    #[derive(Args, Debug)]
    struct TestArgs {
        #[arg(long, env = "HWACHA_TEST_LISTEN_UNSET", default_value = "default")]
        listen_on: String,
        #[arg(long)]
        fast: bool,
        #[arg(long)]
        config: Option<PathBuf>,
    }

    fn parse(file: &str, flags: &[&str]) -> Result<TestArgs, CliError> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("hwacha.toml");
        std::fs::write(&path, file).expect("a file");
        let mut command = Command::new("hwacha").subcommand(TestArgs::augment_args(Command::new("run")));
        let mut arguments: Vec<OsString> = vec!["hwacha".into(), "run".into(), "--config".into(), path.into()];
        arguments.extend(flags.iter().map(OsString::from));
        let matches = with_file(&mut command, arguments)?;
        let (_, matches) = matches.subcommand().expect("a command");
        Ok(TestArgs::from_arg_matches(matches).expect("checked before"))
    }

    #[test]
    fn the_file_stands_between_flags_and_defaults() {
        assert_eq!(parse("", &[]).expect("valid").listen_on, "default");
        let file = "listen_on = \"file\"\nfast = true";
        let args = parse(file, &[]).expect("valid");
        assert_eq!((args.listen_on.as_str(), args.fast), ("file", true));
        assert_eq!(parse(file, &["--listen-on", "flag"]).expect("valid").listen_on, "flag");
    }

    #[test]
    fn unknown_keys_are_errors_that_name_a_near_one() {
        let error = parse("listen-onn = \"x\"", &[]).expect_err("unknown").to_string();
        assert!(error.ends_with("there is no setting \"listen-onn\"; did you mean \"listen-on\"?"), "{error}");
        let error = parse("help = true", &[]).expect_err("no setting").to_string();
        assert!(error.contains("there is no setting \"help\""), "{error}");
        let error = parse("listen-on = [1]", &[]).expect_err("wrong type").to_string();
        assert!(error.contains("\"listen-on\""), "{error}");
    }
}
