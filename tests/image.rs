//! The content of the image, without Docker: the static program in a root with nothing else in it, read-only, as a user
//! without any rights, as the Deployment runs it. And the Dockerfile, held against what it speaks of.
//!
//! `PODGRAFT_STATIC` names the program; without it `deploy/static.sh` links one of the profile that the tests are built
//! with, which takes seconds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::{env, fs, thread};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use podgraft_testkit::server::{Podgraft, free_port};
use podgraft_testkit::{client, install, root};
use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = "\
apiVersion: podgraft.io/v1alpha1
kind: GraftConfig
basePodTemplate: {env: [{name: FROM_BASE, value: everywhere}], modules: [nfs]}
modules: {nfs: {wasm: inject-nfs.wasm, params: {mountPath: /mnt/nfs}}}
taskConfig: [{config: {nfs: {server: {ip: 10.0.0.7, path: /export}}}}]
";

fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> =
        LazyLock::new(|| env::var_os("PODGRAFT_STATIC").map_or_else(linked, PathBuf::from));
    &PROGRAM
}

/// One of the profile that the tests are built with.
fn linked() -> PathBuf {
    let script = root().join("deploy/static.sh");
    let output = Command::new(script).arg("dev").stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "deploy/static.sh: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// A root with the program in it and what a Pod mounts.
fn image() -> TempDir {
    let image = tempfile::tempdir().unwrap();
    let path = |name: &str| image.path().join(name);
    fs::copy(program(), path("podgraft")).unwrap();
    for folder in ["config", "policies", "tls"] {
        fs::create_dir(path(folder)).unwrap();
    }
    fs::write(path("config/podgraft.yaml"), CONFIG).unwrap();
    fs::copy(root().join("policies/inject-nfs.wasm"), path("policies/inject-nfs.wasm")).unwrap();
    image
}

/// Runs the program in the root, which is mounted read-only, as user 65532 without capabilities. Two user namespaces:
/// one may mount, the other one is the user's; neither needs root on this machine.
fn contained(image: &Path, arguments: &[&str]) -> Command {
    const SCRIPT: &str = "mount --bind -- \"$0\" \"$0\" && mount -o remount,bind,ro -- \"$0\" && \
                          exec unshare --user --map-user=65532 --map-group=65532 --root=\"$0\" --wd=/ /podgraft \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", SCRIPT]).arg(image).args(arguments);
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default()).env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    command
}

#[test]
fn the_static_program_serves_in_an_empty_read_only_root_and_ends_on_sigterm() {
    let image = image();
    let certificate = install::serving_certificate(&image.path().join("tls")).unwrap();
    let (port, admin_port) = (free_port().unwrap(), free_port().unwrap());
    let (listen, admin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin_port}"));
    let arguments = [
        "serve",
        "--config=/config",
        "--policies=/policies",
        "--drain-grace=100ms",
        "--listen",
        &listen,
        "--admin-listen",
        &admin,
        "--tls-cert=/tls/tls.crt",
        "--tls-key=/tls/tls.key",
    ];
    let outside = tempfile::tempdir().unwrap();
    let log = outside.path().join("log");
    let podgraft = Podgraft::start_command(contained(image.path(), &arguments), port, admin_port, &log).unwrap();

    confined(podgraft.id());
    let review = fs::read(root().join("tests/fixtures/reviews/bare-apply-clearml.json")).unwrap();
    let reply = client::post(port, &certificate.ca_pem(), &review).unwrap();
    let reply: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(reply["response"]["allowed"], true, "{reply}");
    let patch = BASE64_STANDARD.decode(reply["response"]["patch"].as_str().unwrap()).unwrap();
    let patch = String::from_utf8(patch).unwrap();
    assert!(patch.contains("FROM_BASE") && patch.contains("/mnt/nfs"), "{patch}");
    let status = podgraft.terminate().unwrap();
    assert!(status.success(), "{status}: {}", fs::read_to_string(log).unwrap());
}

/// The process is where and who it should be.
fn confined(id: u32) {
    let proc = |name: &str| fs::read_to_string(format!("/proc/{id}/{name}")).unwrap();
    let mapping = proc("uid_map");
    assert_eq!(mapping.split_whitespace().next(), Some("65532"), "{mapping}");
    let status = proc("status");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    let mounts = proc("mountinfo");
    let root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().starts_with("ro"), "{root}");
    let maps = proc("maps");
    assert!(!maps.contains(".so"), "{maps}");
}

#[test]
fn the_static_program_finds_hosts_by_name() {
    let image = image();
    install::serving_certificate(&image.path().join("tls")).unwrap(); // of the system's authorities there are none
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = |name: &str| image.path().join(name);
    fs::create_dir(path("etc")).unwrap();
    fs::write(path("etc/hosts"), "127.0.0.1 api.podgraft.test\n").unwrap();
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": format!("http://api.podgraft.test:{port}"), "certificate-authority": "/tls/ca.crt"}}],
    });
    fs::write(path("kubeconfig"), kubeconfig.to_string()).unwrap();
    let mut check = contained(image.path(), &["certs", "check", "--secret", "podgraft/podgraft-tls"]);
    let check = check.env("KUBECONFIG", "/kubeconfig").stderr(Stdio::piped()).spawn().unwrap();
    let answers = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
        let answer = "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
    });
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "podgraft: the Secret podgraft/podgraft-tls cannot be read: the API server responds with status 418\n"
    );
    answers.join().unwrap();
}

// === the Dockerfile ===

/// Its instructions, each on one line.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// Returns the text after the last instruction of this name.
fn last(name: &str) -> String {
    instructions().into_iter().rfind(|(word, _)| word == name).unwrap().1
}

#[test]
fn the_dockerfile_is_the_deployments_image() {
    let text = fs::read_to_string(root().join("deploy/kustomize/base/deployment.yaml")).unwrap();
    let deployment: Value = serde_saphyr::from_str(&text).unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let (user, group) = (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["runAsGroup"]);
    assert_eq!(last("USER"), format!("{user}:{group}"));
    let ports = container["ports"].as_array().unwrap().iter().map(|port| port["containerPort"].to_string());
    assert_eq!(last("EXPOSE"), ports.collect::<Vec<_>>().join(" "));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(container["image"], format!("podgraft:{version}"));
    assert!(last("LABEL").contains(&format!("org.opencontainers.image.version=\"{version}\"")));
    for variable in container["env"].as_array().unwrap() {
        let (name, value) = (variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        assert_eq!(last("ENV"), format!("{name}={value}"));
    }
}

#[test]
fn the_dockerfile_builds_with_the_pinned_toolchain_from_what_exists() {
    let text = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let channel = text.split("channel = \"").nth(1).unwrap().split('"').next().unwrap();
    let instructions = instructions();
    let (_, first) = &instructions[0];
    assert_eq!(*first, format!("rust:{channel}-slim-bookworm AS build"));
    assert!(instructions.contains(&("ENV".to_owned(), format!("RUSTUP_TOOLCHAIN={channel}"))));
    assert_eq!(last("FROM"), "scratch");
    assert_eq!(last("ENTRYPOINT"), "[\"/podgraft\"]");

    let script = fs::read_to_string(root().join("deploy/static.sh")).unwrap();
    for (word, rest) in instructions.iter().filter(|(word, _)| ["COPY", "RUN"].contains(&word.as_str())) {
        let source = rest.split(' ').find(|part| !part.starts_with("--")).unwrap();
        let built = source.strip_prefix("/src/").unwrap_or(source);
        match built.strip_prefix("target/static/release/") {
            Some(name) => assert!(script.contains(&format!("/{name}\"\n")), "{word} {rest}"),
            None => assert!(root().join(built).exists(), "{word} {rest}"),
        }
    }
}

#[test]
fn the_image_is_built_from_no_key_and_no_build() {
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    for line in [".git", "**/target", "**/*.key"] {
        assert!(ignored.lines().any(|found| found == line), "{line}");
    }
}
