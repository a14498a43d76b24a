//! `podgraft completion`: the scripts of the three shells.

use std::fs;
use std::process::Command;

use super::{folder, podgraft};

#[test]
fn the_script_of_each_shell_has_the_verbs_and_their_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = podgraft(&["completion", shell], "");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        for word in ["render", "check", "explain", "completion", "policies", "strict"] {
            assert!(ran.stdout.contains(word), "{shell}: {word}");
        }
    }
    let ran = podgraft(&["completion", "tcsh"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("[possible values: bash, zsh, fish]"), "{}", ran.stderr);
}

#[test]
fn bash_completes_a_verb_and_a_flag_with_it() {
    let folder = folder(&[]);
    let script = folder.path().join("podgraft.bash");
    fs::write(&script, podgraft(&["completion", "bash"], "").stdout).unwrap();
    let complete = |words: &str, at: usize| {
        let text = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={at}; _podgraft podgraft \"${{COMP_WORDS[{at}]}}\" ''; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &text]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("podgraft expl", 1), "explain\n");
    assert_eq!(complete("podgraft check --str", 2), "--strict\n");
}
