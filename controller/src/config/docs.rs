//! The tables of docs/configuration.md, and the test that compares the page with them. `TANDEM_WRITE_DOCS=1 cargo test
//! -p tandem --lib the_page` writes the tables to the page.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::explain::fate;
use super::schema::flags::{FLAGS, Sets};
use super::schema::{FieldKind, SCHEMAS, Schema, Why, kube_proxy, tandem};

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md")
}

/// A text as it is written in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn fields(schema: &Schema) -> String {
    let mut out = String::from("| field | type | default | what it does | in Tandem |\n|---|---|---|---|---|\n");
    for field in schema.fields {
        let default = field.default_text().map(|text| format!("`{text}`")).unwrap_or_default();
        let (kind, about, fate) = (field.kind.name(), cell(field.about), cell(&fate(field.fate)));
        let _ = writeln!(out, "| `{}` | {kind} | {default} | {about} | {fate} |", field.path);
    }
    out
}

fn flags(of_kube_proxy: bool) -> String {
    let mut out = String::from("| flag | type | what it does | in Tandem | with `--config` |\n|---|---|---|---|---|\n");
    for flag in FLAGS.iter().filter(|flag| flag.of_kube_proxy() == of_kube_proxy) {
        let short = if flag.name == "v" { "`-v`, " } else { "" };
        let kind = match flag.kind {
            FieldKind::Texts => "list, with commas",
            FieldKind::Switches => "A=true,B=false",
            kind => kind.name(),
        };
        let field_fate = |path| {
            SCHEMAS
                .iter()
                .find_map(|schema| schema.field(path))
                .map(|field| fate(field.fate))
        };
        let (does, beside) = match flag.sets {
            Sets::KubeProxy(path) => (format!("Sets `{path}`."), "ignored, with a warning"),
            Sets::Always(path) => (format!("Sets `{path}`."), "wins"),
            Sets::Tandem(path) => (format!("Sets `{path}` of the TandemConfiguration."), "wins"),
            Sets::Itself if flag.name.ends_with("-port") => ("Honoured.".to_owned(), "ignored, with a warning"),
            Sets::Itself | Sets::Own => ("Honoured.".to_owned(), "counts"),
            Sets::Nothing(reason) => (format!("Ignored: {reason}."), ""),
            Sets::Dropped(_) => continue,
        };
        let ignored = match flag.sets {
            Sets::KubeProxy(path) | Sets::Always(path) => field_fate(path)
                .filter(|fate| fate.starts_with("Ignored"))
                .map(|fate| format!(" {fate}")),
            _ => None,
        };
        let does = cell(&(does + &ignored.unwrap_or_default()));
        let _ = writeln!(
            out,
            "| {short}`--{}` | {kind} | {} | {does} | {beside} |",
            flag.name,
            cell(flag.about)
        );
    }
    out
}

/// What kube-proxy dropped, in the order of the releases that dropped it.
fn dropped() -> String {
    let mut rows: Vec<(&str, String, String)> = Vec::new();
    for field in kube_proxy::SCHEMA.unused {
        if let Why::Dropped(release) = field.why {
            rows.push((release, format!("`{}`", field.path), format!("{}.", field.about)));
        }
    }
    for flag in FLAGS {
        if let Sets::Dropped(release) = flag.sets {
            rows.push((release, format!("`--{}`", flag.name), flag.about.to_owned()));
        }
    }
    let number = |release: &str| release.rsplit('.').next().and_then(|minor| minor.parse::<u32>().ok());
    rows.sort_by_key(|(release, ..)| number(release));
    let mut out = String::from("| dropped in Kubernetes | field or flag | what it was |\n|---|---|---|\n");
    for (release, name, about) in rows {
        let _ = writeln!(out, "| {release} | {name} | {} |", cell(&about));
    }
    out
}

/// The page with the present tables.
fn with_tables(page: &str) -> String {
    let tables = [
        ("KubeProxyConfiguration", fields(&kube_proxy::SCHEMA)),
        ("TandemConfiguration", fields(&tandem::SCHEMA)),
        ("kube-proxy's flags", flags(true)),
        ("Tandem's flags", flags(false)),
        ("dropped by kube-proxy", dropped()),
    ];
    let mut page = page.to_owned();
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- table: {name} -->\n"), "<!-- end -->");
        let start = page.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
        let stop = start + page[start..].find(end).unwrap_or_else(|| panic!("no end of {name}"));
        page.replace_range(start..stop, &table);
    }
    page
}

#[test]
fn the_page_has_the_tables_as_they_are() {
    let there = std::fs::read_to_string(page()).unwrap();
    let wanted = with_tables(&there);
    if std::env::var_os("TANDEM_WRITE_DOCS").is_some() {
        std::fs::write(page(), wanted).unwrap();
        return;
    }
    for (there, wanted) in there.lines().zip(wanted.lines()) {
        assert_eq!(there, wanted, "TANDEM_WRITE_DOCS=1 writes the tables");
    }
    assert!(there == wanted, "TANDEM_WRITE_DOCS=1 writes the tables");
}
