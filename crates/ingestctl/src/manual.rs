//! `completions` and `man`: what is generated from the command line's own description.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use crate::answer::{Answer, Exit, Failure};
use crate::arguments::Arguments;

/// A completion script.
pub(crate) fn completions(shell: Shell) -> Result<Answer, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "ingestctl", &mut script);
    answer(script)
}

/// The man page of the whole, or of one command.
pub(crate) fn page(command: Option<&str>) -> Result<Answer, Failure> {
    let mut whole = Arguments::command();
    whole.build();
    let wanted = match command {
        None => whole,
        Some(name) => {
            let names = whole.get_subcommands().map(clap::Command::get_name).collect::<Vec<_>>().join(", ");
            let found = whole.get_subcommands().find(|sub| sub.get_name() == name).cloned();
            found.ok_or_else(|| {
                Failure::refused(format!("there is no command {name:?}; there are: {names}"))
            })?
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(wanted)
        .render(&mut page)
        .map_err(|error| Failure::refused(format!("the page cannot be made: {error}")))?;
    answer(page)
}

fn answer(generated: Vec<u8>) -> Result<Answer, Failure> {
    let text = String::from_utf8(generated).map_err(|error| Failure::refused(error.to_string()))?;
    Ok(Answer { exit: Exit::Effective, json: json!({ "text": text }), text })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let script = completions(shell).unwrap().text;
            for name in Arguments::command().get_subcommands().map(|sub| sub.get_name().to_owned()) {
                assert!(script.contains(&name), "{shell}: {name}");
            }
        }
    }

    #[test]
    fn the_page_tells_the_exit_codes_and_every_command_has_its_own() {
        let whole = page(None).unwrap().text;
        assert!(whole.contains(".TH ingestctl 1") && whole.contains("accepted, but not seen"), "{whole}");
        for name in Arguments::command().get_subcommands().map(|sub| sub.get_name().to_owned()) {
            let own = page(Some(&name)).unwrap().text;
            assert!(own.contains(&format!("ingestctl\\-{name}")), "{name}: {own}");
        }
        assert!(
            page(Some("nonsense"))
                .is_err_and(|failure| failure.sentence.contains("there are: status, pause"))
        );
    }
}
