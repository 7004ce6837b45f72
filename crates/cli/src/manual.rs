//! Completion scripts and manual pages, made from the command line's
//! definition.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::Outcome;
use crate::args::{CAPTURE_EXAMPLES, Cli, DUMP_EXAMPLES, EXAMPLES, EXIT_STATUS, Section};
use crate::output::Output;

/// The commands that have a page of their own: all.
pub(crate) const PAGES: [&str; 7] = [
    "info",
    "maps",
    "dump",
    "progs",
    "capture",
    "completions",
    "man",
];

/// Prints the completion script for `shell`.
pub(crate) fn completions(shell: Shell) -> Result<Outcome> {
    // The generator panics where its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bpfreeze", &mut script);
    print(&script)
}

/// Prints bpfreeze(1), or the page of one command.
pub(crate) fn page(command: Option<&str>) -> Result<Outcome> {
    let mut cli = Cli::command();
    cli.build();
    let subject = command.and_then(|name| cli.find_subcommand(name));
    let subject = subject.unwrap_or(&cli).clone();
    let sections: &[Section] = match command {
        None => &[EXAMPLES, EXIT_STATUS],
        Some("dump") => &[DUMP_EXAMPLES, EXIT_STATUS],
        Some("capture") => &[CAPTURE_EXAMPLES, EXIT_STATUS],
        Some(_) => &[EXIT_STATUS],
    };
    let has_commands = subject.has_subcommands();
    let man = Man::new(subject).source(concat!("bpfreeze ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    for (heading, text) in sections {
        let mut roff = Roff::new();
        roff.control("SH", [heading.to_uppercase().as_str()]);
        roff.control("nf", []);
        for line in text.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
        roff.to_writer(&mut page)?;
    }
    print(&page)
}

fn print(text: &[u8]) -> Result<Outcome> {
    let mut output = Output::stdout();
    let written = output.write_all(text).map(|()| Outcome::Complete);
    output.finish(written.map_err(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let cli = Cli::command();
        let pages: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(pages, PAGES);
    }
}
