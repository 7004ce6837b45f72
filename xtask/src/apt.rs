//! Debian packages through apt: from the machine's own sources, or from another suite of the same
//! archive by a private folder that leaves the machine's lists and sources alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::run::{capture, run};

/// What Debian signs its suites with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where packages come from. The default is the machine's own lists and sources.
#[derive(Debug, Default)]
pub(crate) struct Apt {
    /// Options for every call.
    options: Vec<String>,
}

impl Apt {
    /// A suite of the archive that the machine itself uses, its lists brought up to date in the
    /// cache.
    ///
    /// # Errors
    /// Fails if the machine's lists name no Debian archive, or that has no such suite.
    pub(crate) fn suite(suite: &str) -> Result<Self> {
        let sites = sites()?;
        ensure!(
            !sites.is_empty(),
            "the package lists of this machine come from no Debian archive"
        );
        let home = paths::cache("apt")?.join(suite);
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(folder))?;
        }
        let lines = sites
            .iter()
            .map(|site| format!("deb [signed-by={KEYRING}] {site} {suite} main\n"));
        fs::write(home.join("sources.list"), lines.collect::<String>())?;
        let home = home.display();
        let apt = Self {
            options: vec![
                format!("Dir::Etc::sourcelist={home}/sources.list"),
                "Dir::Etc::sourceparts=-".to_owned(),
                format!("Dir::State::lists={home}/lists"),
                format!("Dir::Cache={home}/cache"),
            ],
        };
        run(apt.command("apt-get").args(["--quiet", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Its own user may not see the folders of ours.
        command.args(["-o", "APT::Sandbox::User=root"]);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// The newest of the packages whose whole name matches a regular expression, unless the lists
    /// know none.
    ///
    /// # Errors
    /// Fails if apt-cache does.
    pub(crate) fn newest(&self, pattern: &str) -> Result<Option<String>> {
        let mut search = self.command("apt-cache");
        search.args(["search", "--names-only", &format!("^{pattern}$")]);
        let found = capture(&mut search)?;
        let names = found.lines().filter_map(|line| line.split(' ').next());
        Ok(names.max_by_key(|name| version(name)).map(str::to_owned))
    }

    /// Unpacks a package below a folder.
    ///
    /// # Errors
    /// Fails if the package cannot be fetched or unpacked.
    pub(crate) fn unpack(&self, package: &str, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let mut download = self.command("apt-get");
        download
            .args(["--quiet", "download"])
            .arg(package)
            .current_dir(folder);
        run(&mut download)?;
        let file = package_file(folder)?.context("apt-get downloaded nothing")?;
        run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(folder))?;
        fs::remove_file(file)?;
        Ok(())
    }
}

fn package_file(folder: &Path) -> Result<Option<PathBuf>> {
    let mut files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(files.find(|path| path.extension().is_some_and(|extension| extension == "deb")))
}

/// The addresses of the Debian archives that the machine's lists came from. Security updates have
/// an archive of their own, with suites of other names.
fn sites() -> Result<BTreeSet<String>> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(LABEL) $(SITE)"]);
    let targets = capture(&mut targets)?;
    let sites = targets
        .lines()
        .filter_map(|line| line.strip_prefix("Debian "));
    Ok(sites.map(str::to_owned).collect())
}

/// The numbers in a package's name, for comparison.
pub(crate) fn version(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_compare_as_numbers() {
        let older = "linux-image-6.12.9+deb12-cloud-amd64";
        let newer = "linux-image-6.12.117+deb12-cloud-amd64-unsigned";
        assert!(version(older) < version(newer));
    }
}
