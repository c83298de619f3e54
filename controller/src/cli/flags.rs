//! The flags of `tandem run`, made from the table in the configuration. They are written as kube-proxy's flags are:
//! `--flag value` or `--flag=value`. A switch stands alone or with `=false`. If a flag is repeated, the last value
//! counts. Only the values of a list are collected.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{FLAGS, Fate, FieldKind, Flag, Flags, SCHEMAS, Sets};

/// The flags that the command line has.
#[derive(Debug)]
pub(super) struct Given(pub(super) Flags);

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS.iter().filter_map(|flag| {
            let values = matches.get_many::<String>(flag.name)?;
            Some((flag.name, values.cloned().collect()))
        });
        let flags = Flags::new(given);
        let flags =
            flags.map_err(|error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error.to_string()))?;
        Ok(Self(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command.args(
            FLAGS
                .iter()
                .enumerate()
                .map(|(order, flag)| argument(flag).display_order(order)),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(flag: &Flag) -> Arg {
    let argument = Arg::new(flag.name)
        .long(flag.name)
        .action(ArgAction::Append)
        .value_parser(ValueParser::string())
        .value_name(value_name(flag))
        .allow_hyphen_values(true)
        .help(help(flag))
        .hide_short_help(unused(flag).is_some());
    let argument = if flag.name == "v" {
        argument.short('v')
    } else {
        argument
    };
    if flag.kind == FieldKind::Boolean {
        return argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true");
    }
    argument
}

fn help(flag: &Flag) -> String {
    match unused(flag) {
        Some(reason) => format!("{} No effect: {reason}.", flag.about).trim_start().to_owned(),
        None => flag.about.to_owned(),
    }
}

/// Why a flag has no effect, if it has none.
fn unused(flag: &Flag) -> Option<&'static str> {
    match flag.sets {
        Sets::Nothing(reason) => Some(reason),
        Sets::Dropped(_) => Some("kube-proxy had it once"),
        Sets::KubeProxy(path) | Sets::Always(path) => {
            match SCHEMAS.iter().find_map(|schema| schema.field(path))?.fate {
                Fate::Ignored(reason) => Some(reason),
                Fate::Honoured(_) | Fate::Section => None,
            }
        }
        Sets::Tandem(_) | Sets::Itself | Sets::Own => None,
    }
}

fn value_name(flag: &Flag) -> &'static str {
    match (flag.name, flag.kind) {
        ("config" | "tandem-config" | "kubeconfig" | "write-config-to", _) => "FILE",
        ("source", _) => "SOURCE",
        ("socket", _) => "PATH",
        ("master", _) => "URL",
        ("hostname-override", _) => "NAME",
        ("log", _) => "LEVEL",
        (_, FieldKind::Boolean) => "BOOL",
        (_, FieldKind::Duration) => "DURATION",
        (_, FieldKind::Integer | FieldKind::Unsigned | FieldKind::Number) => "NUMBER",
        (_, FieldKind::Texts) => "LIST",
        (_, FieldKind::Switches) => "NAME=BOOL,…",
        _ => "TEXT",
    }
}
