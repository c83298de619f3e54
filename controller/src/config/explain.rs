//! `tandem config explain`: prints the tables in the style of `kubectl explain`.

use std::fmt::Write as _;

use super::schema::{Change, Fate, Field, FieldKind, SCHEMAS, Schema, Unused, nearest};

/// The largest width of a line.
const WIDTH: usize = 80;

/// Describes a field, a whole kind of file (by its kind, in any case), or both kinds (by the empty path). An error
/// names the path that was probably meant.
pub fn explain(path: &str, recursive: bool) -> Result<String, String> {
    if path.is_empty() {
        let kinds = SCHEMAS.iter().map(|schema| whole(schema, recursive));
        return Ok(kinds.collect::<Vec<_>>().join("\n"));
    }
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    if let Some(schema) = SCHEMAS.iter().find(|schema| schema.kind.eq_ignore_ascii_case(first)) {
        return match rest {
            "" => Ok(whole(schema, recursive)),
            rest => match schema.field(rest) {
                Some(field) => Ok(one(schema, field, recursive)),
                None if let Some(field) = schema.unused(rest) => Ok(unused(schema, field)),
                None => Err(unknown(rest, &[schema])),
            },
        };
    }
    let found: Vec<String> = SCHEMAS
        .iter()
        .filter_map(|schema| match (schema.field(path), schema.unused(path)) {
            (Some(field), _) => Some(one(schema, field, recursive)),
            (None, Some(field)) => Some(unused(schema, field)),
            (None, None) => None,
        })
        .collect();
    if found.is_empty() {
        return Err(unknown(path, &SCHEMAS));
    }
    Ok(found.join("\n"))
}

fn unknown(path: &str, schemas: &[&'static Schema]) -> String {
    let fields = || schemas.iter().flat_map(|schema| schema.fields).map(|field| field.path);
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    // First a path that is similar as a whole, then one whose last name is similar.
    let near = nearest(path, fields()).or_else(|| {
        let name = nearest(path, fields().map(last))?;
        fields().find(|field| last(field) == name)
    });
    match near {
        Some(near) => format!("no field {path:?}; did you mean {near}?"),
        None => format!("no field {path:?}; `tandem config explain --recursive` prints all"),
    }
}

fn whole(schema: &Schema, recursive: bool) -> String {
    let mut out = head(schema);
    let _ = writeln!(out, "DESCRIPTION:\n{}", wrapped(schema.about, 4));
    fields(&mut out, schema, "", recursive);
    out
}

fn one(schema: &Schema, field: &Field, recursive: bool) -> String {
    let mut out = head(schema);
    let _ = writeln!(out, "FIELD: {} <{}>\n", field.path, field.kind.name());
    let _ = writeln!(out, "DESCRIPTION:\n{}", wrapped(field.about, 4));
    if let Some(default) = field.default_text() {
        let _ = writeln!(out, "DEFAULT: {default}\n");
    }
    if field.fate != Fate::Section {
        let _ = writeln!(out, "TANDEM:\n{}", wrapped(&fate(field.fate), 4));
    }
    fields(&mut out, schema, field.path, recursive);
    out
}

/// Describes a field that a file may have and that is not read.
fn unused(schema: &Schema, field: &Unused) -> String {
    let reason = wrapped(&format!("Ignored: {}.", field.reason()), 4);
    format!("{}FIELD: {}\n\nTANDEM:\n{reason}\n", head(schema), field.path)
}

/// What Tandem does with a field, as a sentence.
pub(super) fn fate(fate: Fate) -> String {
    match fate {
        Fate::Honoured(Change::Live) => "Honoured; a change takes effect at once.".to_owned(),
        Fate::Honoured(Change::Restart) => "Honoured; a change takes effect at the next start.".to_owned(),
        Fate::Ignored(reason) => format!("Ignored: {reason}."),
        Fate::Section => String::new(),
    }
}

fn head(schema: &Schema) -> String {
    format!("KIND:       {}\nVERSION:    {}\n\n", schema.kind, schema.version)
}

fn fields(out: &mut String, schema: &Schema, path: &str, recursive: bool) {
    if schema.below(path).next().is_none() {
        return;
    }
    out.push_str("FIELDS:\n");
    if recursive {
        tree(out, schema, path, 2);
        return;
    }
    for field in schema.below(path) {
        let _ = writeln!(
            out,
            "  {}\t<{}>\n{}",
            name(field),
            field.kind.name(),
            wrapped(field.about, 4)
        );
    }
}

fn tree(out: &mut String, schema: &Schema, path: &str, indent: usize) {
    for field in schema.below(path) {
        let _ = writeln!(out, "{:indent$}{}\t<{}>", "", name(field), field.kind.name());
        if matches!(field.kind, FieldKind::Section | FieldKind::Sections) {
            tree(out, schema, field.path, indent + 2);
        }
    }
}

fn name(field: &Field) -> &str {
    field.path.rsplit('.').next().unwrap_or(field.path)
}

fn wrapped(text: &str, indent: usize) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_explained_as_kubectl_does() {
        assert_eq!(
            explain("conntrack.maxPerCore", false).unwrap(),
            "\
KIND:       KubeProxyConfiguration
VERSION:    kubeproxy.config.k8s.io/v1alpha1

FIELD: conntrack.maxPerCore <integer>

DESCRIPTION:
    Connections per processor: nf_conntrack_max becomes this times the
    processors, at most 1048576, at least min. 0 leaves it as it is.

DEFAULT: 32768

TANDEM:
    Honoured; a change takes effect at once.

"
        );
        assert_eq!(
            explain("TandemConfiguration", true)
                .unwrap()
                .split_once("FIELDS:\n")
                .unwrap()
                .1,
            "  apiVersion\t<string>\n  kind\t<string>\n  dataPlane\t<string>\n  \
             socketLoadBalancing\t<string>\n  nodeCgroup\t<string>\n  podCgroup\t<string>\n  bpfFolder\t<string>\n  xdp\t<Object>\n    pick\t<string>\n    devices\t<[]string>\n    mode\t<string>\n    maxFlows\t<integer>\n  nodePortLoopback\t<boolean>\n  serviceRoutes\t<boolean>\n  \
             dropInvalid\t<boolean>\n  removeKubeProxyRules\t<boolean>\n  events\t<boolean>\n  socket\t<string>\n  \
             apiServer\t<Object>\n    lists\t<string>\n  log\t<Object>\n    level\t<string>\n    \
             format\t<string>\n"
        );
        let section = explain("clientConnection", false).unwrap();
        assert!(
            section.contains("\n  burst\t<integer>\n    How many requests may exceed qps at once; 0 or more.\n"),
            "{section}"
        );
        let whole = explain("", false).unwrap();
        assert!(
            whole.contains("KIND:       KubeProxyConfiguration") && whole.contains("KIND:       TandemConfiguration")
        );
    }

    #[test]
    fn every_field_of_both_kinds_is_in_the_recursive_tree() {
        let all = explain("", true).unwrap();
        let fields: usize = SCHEMAS.iter().map(|schema| schema.fields.len()).sum();
        assert_eq!(all.lines().filter(|line| line.contains("\t<")).count(), fields);
    }

    #[test]
    fn an_unknown_field_leads_to_the_one_that_was_meant() {
        for (path, meant) in [
            ("conntrack.maxPerCor", "conntrack.maxPerCore"),
            ("nodePortAdresses", "nodePortAddresses"),
            ("maxPerCore", "conntrack.maxPerCore"),
            (
                "KubeProxyConfiguration.nftables.masqueradebit",
                "nftables.masqueradeBit",
            ),
        ] {
            let error = explain(path, false).unwrap_err();
            assert!(error.ends_with(&format!("did you mean {meant}?")), "{error}");
        }
        assert!(explain("nonsense", false).unwrap_err().ends_with("prints all"));
    }
}
