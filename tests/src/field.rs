//! The cases of `docs/field.md`, and the tests that they name. The tests are found among the test programs that cargo
//! has built, and run one at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::code::root;

/// How long one test may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// For example `8.2`.
    pub number: String,
    /// What goes wrong in other programs.
    pub title: String,
    /// The tests that prove that it does not go wrong here. There may be none yet.
    pub tests: Vec<String>,
}

/// Reads the table.
pub fn cases() -> Result<Vec<Case>> {
    let file = root().join("docs/field.md");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let cases = parse(&text)?;
    ensure!(!cases.is_empty(), "{} has no case", file.display());
    Ok(cases)
}

fn parse(text: &str) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number = cells.first().copied().unwrap_or_default();
        if number == "#" || number.is_empty() {
            continue; // the head of the table, or of a part of it
        }
        ensure!(cells.len() == 5, "case {number} has {} cells instead of 5", cells.len());
        ensure!(
            cases.iter().all(|case| case.number != number),
            "there are two cases {number}"
        );
        cases.push(Case {
            number: number.to_owned(),
            title: cells[1].to_owned(),
            tests: cells[4].split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        });
    }
    Ok(cases)
}

/// A function in a test program.
#[derive(Clone, Debug)]
struct Place {
    program: PathBuf,
    /// The folder in which cargo runs it.
    folder: PathBuf,
    /// The function's path, with its modules.
    path: String,
}

/// Every test that cargo has built.
#[derive(Debug)]
pub struct Tests(BTreeMap<String, Vec<Place>>);

impl Tests {
    /// Builds what is not built, and lists the tests of each test program.
    pub fn build() -> Result<Self> {
        for arguments in [&["build", "--workspace"][..], &["test", "--workspace", "--no-run"]] {
            let status = cargo().args(arguments).status().context("run cargo")?;
            ensure!(status.success(), "cargo {} failed", arguments.join(" "));
        }
        let output = cargo()
            .args(["test", "--workspace", "--no-run", "--message-format=json"])
            .stderr(Stdio::null())
            .output()
            .context("run cargo")?;
        let mut tests: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let message: Value = serde_json::from_str(line).with_context(|| format!("cargo said {line:?}"))?;
            let (true, Some(program)) = (message["profile"]["test"] == true, message["executable"].as_str()) else {
                continue;
            };
            let manifest = message["manifest_path"].as_str().unwrap_or_default();
            let folder = Path::new(manifest).parent().unwrap_or(Path::new(".")).to_path_buf();
            let list = Command::new(program).arg("--list").current_dir(&folder).output();
            let list = list.with_context(|| format!("run {program}"))?;
            for line in String::from_utf8_lossy(&list.stdout).lines() {
                let Some(path) = line.strip_suffix(": test") else {
                    continue;
                };
                let name = path.rsplit("::").next().unwrap_or(path);
                tests.entry(name.to_owned()).or_default().push(Place {
                    program: program.into(),
                    folder: folder.clone(),
                    path: path.to_owned(),
                });
            }
        }
        ensure!(!tests.is_empty(), "cargo has built no test");
        Ok(Self(tests))
    }

    /// Runs the tests with this name. Returns what went wrong, if anything did.
    pub fn run(&self, name: &str) -> Result<Option<String>> {
        let Some(places) = self.0.get(name) else {
            return Ok(Some(format!("there is no test {name}")));
        };
        for place in places {
            let mut command = Command::new(&place.program);
            command
                .args(["--exact", &place.path, "--test-threads=1"])
                .current_dir(&place.folder)
                .env("CARGO_MANIFEST_DIR", &place.folder);
            if let Some(complaint) = run_test(&mut command)? {
                return Ok(Some(format!("{name}: {complaint}")));
            }
        }
        Ok(None)
    }
}

fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    command
}

fn run_test(command: &mut Command) -> Result<Option<String>> {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let output = [drain(process.stdout.take()), drain(process.stderr.take())];
    let passed = wait(&mut process)?;
    let text = output.map(|reader| reader.join().unwrap_or_default()).concat();
    Ok(match passed {
        None => Some(format!("not done after {PATIENCE:?}")),
        Some(true) if text.contains("1 passed") => None,
        Some(true) => Some("was not run".to_owned()),
        Some(false) => Some(format!("failed\n{}", indent(&text))),
    })
}

/// Whether it ended well; none if it did not end in time.
fn wait(process: &mut Child) -> Result<Option<bool>> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status.success()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    process.kill()?;
    process.wait()?;
    Ok(None)
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The end of a test's output.
fn indent(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(25)..];
    format!("        {}", last.join("\n        "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_cases_and_heads_do_not() -> Result<()> {
        let text = "# Title\n| # | what | seen | does | tests |\n|---|---|---|---|---|\n| | **Part** | | | |\n\
            | 1.1 | It `hangs`. | here | goes on | `one`, `two` |\n| 1.2 | It stops. | there | goes on | — |\n";
        let cases = parse(text)?;
        let all: Vec<(&str, usize)> = cases
            .iter()
            .map(|case| (case.number.as_str(), case.tests.len()))
            .collect();
        assert_eq!(all, [("1.1", 2), ("1.2", 0)]);
        Ok(())
    }

    #[test]
    fn two_cases_of_one_number_and_missing_cells_are_refused() {
        assert!(parse("| 1 | a | b | c | — |\n| 1 | a | b | c | — |\n").is_err());
        assert!(parse("| 1 | a | b | c |\n").is_err());
    }
}
