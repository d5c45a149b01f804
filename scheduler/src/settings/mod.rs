//! The settings that a session may change, and the values that each of them takes.
//!
//! A setting that is not in the table cannot be set. DataFusion checks types only: a batch size of 10^15 rows makes
//! an executor allocate room for 10^15 rows and abort, and some settings produce operators that cannot be sent to
//! executors. A unit test compares the tables with DataFusion's list of settings. It fails for each setting that a
//! new release adds, until somebody has put the setting into a table.

mod table;

use arrow::array::timezone::Tz;

use crate::catalog::nearest;
use crate::error::Error;
use table::{SERVER_SETTINGS, SESSION_SETTINGS};

/// DataFusion's settings of the process: cache sizes, spill directories, memory limits.
const RUNTIME_PREFIX: &str = "datafusion.runtime.";
/// The setting that `SET TIME ZONE` and `SET timezone` change.
const TIME_ZONE: &str = "datafusion.execution.time_zone";
/// Other names of the time zone setting, as SQL's parser and PostgreSQL write them.
const TIME_ZONE_ALIASES: [&str; 2] = ["timezone", "time.zone"];

/// A setting that a session may change.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The full name, in lower case.
    pub key: &'static str,
    values: Values,
}

/// The values that a setting takes.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// `true` or `false`.
    Switch,
    /// Whole numbers from the first to the second, both included.
    Number(u64, u64),
    /// Decimal numbers from the first to the second, both included.
    Decimal(f64, f64),
    /// One of these words, in upper or lower case.
    Words(&'static [&'static str]),
    /// The name of a time zone or an offset from UTC.
    TimeZone,
    /// Text of at most this number of bytes.
    Text(usize),
}

impl Setting {
    const fn switch(key: &'static str) -> Self {
        Self { key, values: Values::Switch }
    }

    const fn number(key: &'static str, least: u64, greatest: u64) -> Self {
        Self { key, values: Values::Number(least, greatest) }
    }

    const fn decimal(key: &'static str, least: f64, greatest: f64) -> Self {
        Self { key, values: Values::Decimal(least, greatest) }
    }

    const fn words(key: &'static str, words: &'static [&'static str]) -> Self {
        Self { key, values: Values::Words(words) }
    }

    const fn text(key: &'static str, most_bytes: usize) -> Self {
        Self { key, values: Values::Text(most_bytes) }
    }

    /// The value as DataFusion takes it: words in lower case. Fails with the bounds if the setting does not take the
    /// value.
    pub(crate) fn value(&self, value: &str) -> Result<String, Error> {
        let Self { key, values } = self;
        if !values.allow(value) {
            return Err(Error::invalid(format!(
                "\"{value}\" is not a valid value for {key}; use {}",
                values.describe()
            )));
        }
        Ok(match values {
            Values::Switch | Values::Words(_) => value.to_lowercase(),
            Values::Number(..) | Values::Decimal(..) | Values::TimeZone | Values::Text(_) => value.to_owned(),
        })
    }
}

impl Values {
    fn allow(self, value: &str) -> bool {
        match self {
            Self::Switch => ["true", "false"].iter().any(|word| word.eq_ignore_ascii_case(value)),
            Self::Number(least, greatest) => {
                value.parse::<u64>().is_ok_and(|number| (least..=greatest).contains(&number))
            }
            // NaN is in no range.
            Self::Decimal(least, greatest) => {
                value.parse::<f64>().is_ok_and(|number| (least..=greatest).contains(&number))
            }
            Self::Words(words) => words.iter().any(|word| word.eq_ignore_ascii_case(value)),
            Self::TimeZone => value.parse::<Tz>().is_ok(),
            Self::Text(most_bytes) => value.len() <= most_bytes,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Number(least, greatest) => format!("a whole number from {least} to {greatest}"),
            Self::Decimal(least, greatest) => format!("a number from {least} to {greatest}"),
            Self::Words(words) => format!("one of {}", words.join(", ")),
            Self::TimeZone => "the name of a time zone, such as Europe/Berlin, or an offset, such as +09:00".to_owned(),
            Self::Text(most_bytes) => format!("a text of at most {most_bytes} bytes"),
        }
    }
}

/// Finds a setting by name, in upper or lower case. Fails if there is none, or if the setting belongs to the server.
pub(crate) fn find(name: &str) -> Result<&'static Setting, Error> {
    let name = name.to_lowercase();
    let key = if TIME_ZONE_ALIASES.contains(&name.as_str()) { TIME_ZONE } else { name.as_str() };
    if let Some(setting) = SESSION_SETTINGS.iter().find(|setting| setting.key == key) {
        return Ok(setting);
    }
    if key.starts_with(RUNTIME_PREFIX) || SERVER_SETTINGS.contains(&key) {
        return Err(Error::invalid(format!("{key} belongs to the server and cannot be set in a session")));
    }
    Err(Error::invalid(match nearest(key, SESSION_SETTINGS.iter().map(|setting| setting.key)) {
        Some(near) => format!("there is no setting {key}; did you mean {near}?"),
        None => format!("there is no setting {key}; SHOW ALL lists all settings"),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datafusion::common::config::Dialect;
    use hwacha_execution::session::session_config;

    use super::*;

    fn refusal(name: &str, value: &str) -> String {
        find(name).and_then(|setting| setting.value(value)).expect_err("it is refused").to_string()
    }

    #[test]
    fn every_setting_is_the_sessions_or_the_servers() {
        let existing: BTreeSet<_> = session_config().options().entries().into_iter().map(|entry| entry.key).collect();
        let known: Vec<_> =
            SESSION_SETTINGS.iter().map(|setting| setting.key).chain(SERVER_SETTINGS.iter().copied()).collect();
        let distinct: BTreeSet<_> = known.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(distinct.len(), known.len(), "a setting is listed twice");
        let undecided: Vec<_> = existing.difference(&distinct).collect();
        assert!(undecided.is_empty(), "may a session set these? {undecided:?}");
        let gone: Vec<_> = distinct.difference(&existing).collect();
        assert!(gone.is_empty(), "there are no such settings any more: {gone:?}");
    }

    #[test]
    fn defaults_are_within_bounds_and_datafusion_takes_them() {
        let mut config = session_config();
        for entry in session_config().options().entries() {
            let Some(setting) = SESSION_SETTINGS.iter().find(|setting| setting.key == entry.key) else { continue };
            let Some(value) = entry.value else { continue };
            let value = setting.value(&value).expect("the default is allowed");
            config.options_mut().set(setting.key, &value).expect("DataFusion takes its default");
        }
    }

    #[test]
    fn datafusion_takes_both_bounds_and_every_word() {
        let mut config = session_config();
        for setting in SESSION_SETTINGS {
            let values = match setting.values {
                Values::Switch => vec!["true".to_owned(), "FALSE".to_owned()],
                Values::Number(least, greatest) => vec![least.to_string(), greatest.to_string()],
                Values::Decimal(least, greatest) => vec![least.to_string(), greatest.to_string()],
                Values::Words(words) => words.iter().map(|word| word.to_uppercase()).collect(),
                Values::TimeZone => vec!["Europe/Berlin".to_owned(), "+09:00".to_owned()],
                Values::Text(_) => vec![String::new(), "%Y".to_owned()],
            };
            for value in values {
                let value = setting.value(&value).unwrap_or_else(|error| panic!("{error}"));
                config
                    .options_mut()
                    .set(setting.key, &value)
                    .unwrap_or_else(|error| panic!("{}: {error}", setting.key));
            }
        }
    }

    #[test]
    fn the_parsers_dialects_are_those_of_datafusion() {
        let dialect = find("datafusion.sql_parser.dialect").expect("it is the session's");
        let Values::Words(words) = dialect.values else { panic!("dialects are words") };
        let existing = Dialect::metadata()
            .iter()
            .flat_map(|dialect| std::iter::once(dialect.canonical_name).chain(dialect.aliases.iter().copied()));
        assert_eq!(existing.collect::<BTreeSet<_>>(), words.iter().copied().collect());
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_the_bounds() {
        assert_eq!(
            refusal("datafusion.execution.batch_size", "1000000000000000"),
            "\"1000000000000000\" is not a valid value for datafusion.execution.batch_size; \
             use a whole number from 1 to 65536"
        );
        for value in ["0", "-1", "1.5", "many", "", "65537", "18446744073709551616"] {
            refusal("datafusion.execution.batch_size", value);
        }
        for value in ["NaN", "inf", "-0.1", "1.1"] {
            refusal("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", value);
        }
        assert_eq!(
            refusal("hwacha.optimizer.adaptive", "yes"),
            "\"yes\" is not a valid value for hwacha.optimizer.adaptive; use true or false"
        );
        assert_eq!(
            refusal("datafusion.sql_parser.default_null_ordering", "last"),
            "\"last\" is not a valid value for datafusion.sql_parser.default_null_ordering; \
             use one of nulls_max, nulls_min, nulls_first, nulls_last"
        );
    }

    #[test]
    fn names_are_found_in_any_case_and_by_alias() {
        for name in ["TimeZone", "time.zone", "TIMEZONE", "Datafusion.Execution.Time_Zone"] {
            assert_eq!(find(name).expect("it is the session's").key, TIME_ZONE);
        }
        assert_eq!(find("HWACHA.optimizer.Ranges").expect("it is the session's").key, "hwacha.optimizer.ranges");
    }

    #[test]
    fn time_zones_exist() {
        let zone = find(TIME_ZONE).expect("it is the session's");
        for value in ["UTC", "Asia/Seoul", "+09:00", "-0330", "+05"] {
            zone.value(value).expect("it exists");
        }
        for value in ["", "Mars/Olympus", "+25:99:00", "9", "NULL"] {
            assert!(refusal("timezone", value).contains("Europe/Berlin"));
        }
    }

    #[test]
    fn the_servers_settings_and_unknown_ones_are_told_apart() {
        for name in [
            "datafusion.runtime.memory_limit",
            "datafusion.runtime.anything_new",
            "datafusion.catalog.default_schema",
            "datafusion.execution.target_partitions",
            "datafusion.sql_parser.recursion_limit",
            "DATAFUSION.OPTIMIZER.SKIP_FAILED_RULES",
        ] {
            let text = refusal(name, "1");
            assert_eq!(text, format!("{} belongs to the server and cannot be set in a session", name.to_lowercase()));
        }
        assert_eq!(
            refusal("hwacha.optimizer.broadcast_byte", "1"),
            "there is no setting hwacha.optimizer.broadcast_byte; did you mean hwacha.optimizer.broadcast_bytes?"
        );
        assert!(refusal("x", "1").starts_with("there is no setting x"));
    }
}
