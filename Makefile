# Two commands do everything, set-up included: `make run` and `make test`.
# They need Rust (rustup reads rust-toolchain.toml), a C compiler, and Go 1.26 (`make run` can use KUBEBUILDER_ASSETS
# instead).
# tests/setup.sh checks the NEEDS of a target before the first compilation, and names what it cannot install.

CARGO ?= cargo

# Cargo and Go use all cores by themselves, and the NEEDS of a target are checked first.
.NOTPARALLEL:
.PHONY: run test check needs bench policies image fuzz deny sbom clean

## run: the main job on a real API server, shown step by step; ends by itself
run:
	@CARGO="$(CARGO)" tests/demo/run.sh

## test: everything that CI runs
test: NEEDS = rust lint wasm cc static go cluster userns git openssl
test: needs check target/cluster.bin
	policies/build.sh --check
	@tests/progress.sh "the tests" "of about 350 crates" $(CARGO) test --locked --no-run
	PODGRAFT_CLUSTER_BIN="$$(cat target/cluster.bin)" $(CARGO) test --locked

## check: formatting, lints, and the core by itself, compiled for wasm32 because it does no I/O
check: NEEDS = rust lint wasm cc
check: needs
	$(CARGO) fmt --all --check
	@tests/progress.sh "clippy" "of about 370 crates" $(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --quiet --test demo -- -D warnings # `test = false` keeps it out of --all-targets
	@tests/progress.sh "the core" "of about 90 crates" $(CARGO) check --locked --lib --no-default-features --target wasm32-unknown-unknown

needs:
	@tests/setup.sh $(NEEDS)

## bench: speed and memory as ratios in one run; the table is written to target/bench/
bench: NEEDS = rust wasm cc
bench: needs
	tests/perf/bench/run.sh

## policies: rebuild the committed modules, to the same bytes
policies:
	policies/build.sh

## image: the program of deploy/Dockerfile, static and optimised, and its tests; no Docker is needed
image: NEEDS = rust cc static userns
image: needs
	program="$$(deploy/static.sh release)" && PODGRAFT_STATIC="$$program" $(CARGO) test --locked --test image && ls -l "$$program"

## fuzz: run each target for FUZZ_SECONDS; TARGETS="review config guest"
FUZZ_SECONDS ?= 600
fuzz:
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh $(TARGETS)

## deny: licenses, sources and banned crates of what is shipped; .deny.toml says how to check advisories
deny: NEEDS = rust cc
deny: needs target/tools/cargo-deny-0.20.2
	target/tools/bin/cargo-deny --locked --config .deny.toml check licenses bans sources

## sbom: the components of the image, as CycloneDX JSON in target/sbom/
sbom: NEEDS = rust cc
sbom: needs target/tools/cargo-cyclonedx-0.5.9
	deploy/sbom.sh

# Tools from crates.io, installed once; their own build folder is removed.
target/tools/%:
	$(CARGO) install --locked --quiet --root target/tools --target-dir target/tools/build \
	  "$$(echo $* | sed -E 's/-([0-9.]+)$$/@\1/')"
	rm -rf target/tools/build
	touch $@

# The control plane's programs. The script caches them by content, so it runs every time.
.PHONY: target/cluster.bin
target/cluster.bin:
	@mkdir -p target
	@tests/cluster/build.sh > $@

clean:
	$(CARGO) clean
