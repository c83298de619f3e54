//! Output in tables as kubectl prints them, in JSON and in YAML; ages.

use std::io::Write;

use serde::Serialize;

use super::{CommandError, Output};

/// Rows of text with headings. There are three spaces between the columns.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(ToString::to_string).collect()],
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        let cells = cells
            .into_iter()
            .map(|cell| if cell.is_empty() { "<none>".to_owned() } else { cell });
        self.rows.push(cells.collect());
    }

    pub(super) fn print(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}   "));
            cells.collect::<String>().trim_end().to_owned() + "\n"
        };
        self.rows.iter().map(line).collect()
    }
}

/// Prints a value as JSON or YAML. Returns false if `output` asks for a table.
pub(super) fn structured<T: Serialize>(value: &T, output: Option<Output>) -> Result<bool, CommandError> {
    match output {
        Some(Output::Json) => print(&(serde_json::to_string_pretty(value)? + "\n"))?,
        Some(Output::Yaml) => print(&serde_saphyr::to_string(value)?)?,
        Some(Output::Wide) | None => return Ok(false),
    }
    Ok(true)
}

/// Prints to standard output. If the reader closed it (`| head`), that is no error.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A number of things: `1 change`, `2 changes`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// An age in kubectl's form: `5s`, `3m`, `2h`, `7d`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_headings() {
        let mut table = Table::new(&["NAME", "TYPE"]);
        table.row(vec!["a-long-name".into(), "ClusterIP".into()]);
        table.row(vec!["b".into(), String::new()]);
        assert_eq!(
            table.print(),
            "NAME          TYPE\na-long-name   ClusterIP\nb             <none>\n"
        );
    }

    #[test]
    fn ages_have_one_unit() {
        assert_eq!([5, 119, 120, 7_200, 172_800].map(age), ["5s", "119s", "2m", "2h", "2d"]);
    }
}
