//! The steps of a run, their results and times. In: what each step did. Out: a table, and whether
//! all of it passed. A step whose tool is missing is never passed over in silence: it fails in CI
//! (`CI=true`), and elsewhere the run ends as incomplete and says what to install.

use std::time::{Duration, Instant};

use anyhow::bail;

/// A tool that a step needs is not there.
#[derive(Debug)]
pub struct Missing(pub String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "needs {}", self.0)
    }
}

impl std::error::Error for Missing {}

/// Collects the results of steps.
#[derive(Debug, Default)]
pub struct Report {
    steps: Vec<Step>,
    ci: bool,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Passed(String),
    Failed(String),
    NotRun(String),
}

impl Report {
    /// An empty report; in CI a missing tool is a failure.
    pub fn new(ci: bool) -> Self {
        Self {
            steps: Vec::new(),
            ci,
        }
    }

    /// Runs a step and notes its result; a failure does not stop the steps after it.
    pub fn step(&mut self, name: &'static str, run: impl FnOnce() -> anyhow::Result<String>) {
        println!("==> {name}");
        let start = Instant::now();
        let outcome = match run() {
            Ok(detail) => Outcome::Passed(detail),
            Err(error) if error.is::<Missing>() && !self.ci => {
                Outcome::NotRun(format!("{error:#}"))
            }
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        let step = Step {
            name,
            took: start.elapsed(),
            outcome,
        };
        println!("{}\n", step.line());
        self.steps.push(step);
    }

    /// Prints the table.
    ///
    /// # Errors
    /// When a step failed or was not run.
    pub fn finish(&self) -> anyhow::Result<()> {
        for step in &self.steps {
            println!("{}", step.line());
        }
        let failed = self.names(|outcome| matches!(outcome, Outcome::Failed(_)));
        let not_run = self.names(|outcome| matches!(outcome, Outcome::NotRun(_)));
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        if !not_run.is_empty() {
            bail!(
                "incomplete, all else passed; not run: {}",
                not_run.join(", ")
            );
        }
        Ok(())
    }

    fn names(&self, which: impl Fn(&Outcome) -> bool) -> Vec<&'static str> {
        self.steps
            .iter()
            .filter(|step| which(&step.outcome))
            .map(|step| step.name)
            .collect()
    }
}

impl Step {
    fn line(&self) -> String {
        let (word, detail) = match &self.outcome {
            Outcome::Passed(detail) => ("ok", detail),
            Outcome::Failed(detail) => ("FAILED", detail),
            Outcome::NotRun(detail) => ("NOT RUN", detail),
        };
        let line = format!(
            "{:<16} {word:<8} {:>7.1} s  {detail}",
            self.name,
            self.took.as_secs_f64()
        );
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> anyhow::Result<String> {
        Err(Missing("helm: npm install".into()).into())
    }

    #[test]
    fn all_passed_is_a_success() {
        let mut report = Report::new(true);
        report.step("one", || Ok("3 tests".into()));
        report.finish().unwrap();
    }

    #[test]
    fn missing_tool_fails_in_ci() {
        let mut report = Report::new(true);
        report.step("chart", missing);
        assert_eq!(report.finish().unwrap_err().to_string(), "failed: chart");
    }

    #[test]
    fn missing_tool_leaves_the_run_incomplete_elsewhere() {
        let mut report = Report::new(false);
        report.step("chart", missing);
        report.step("other", || Ok(String::new()));
        assert_eq!(
            report.finish().unwrap_err().to_string(),
            "incomplete, all else passed; not run: chart"
        );
    }

    #[test]
    fn missing_tool_is_known_below_a_context() {
        let mut report = Report::new(false);
        report.step("tests", || {
            missing().map_err(|error| error.context("3 passed"))
        });
        let error = report.finish().unwrap_err().to_string();
        assert_eq!(error, "incomplete, all else passed; not run: tests");
    }

    #[test]
    fn failure_does_not_stop_the_steps_after_it() {
        let mut report = Report::new(false);
        report.step("bad", || anyhow::bail!("no"));
        let mut ran = false;
        report.step("next", || {
            ran = true;
            Ok(String::new())
        });
        assert!(ran);
        assert_eq!(report.finish().unwrap_err().to_string(), "failed: bad");
    }
}
