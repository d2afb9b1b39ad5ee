//! `gramme completions`: what a shell needs to complete our arguments.

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::print_bytes;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Args)]
#[command(
    after_help = "Example:\n  gramme completions bash > ~/.local/share/bash-completion/completions/gramme"
)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "gramme", &mut script);
        print_bytes(&script)
    }
}
