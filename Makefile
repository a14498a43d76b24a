# Two commands do everything, set-up included: `make run` and `make test`.
# They need Rust (rustup reads rust-toolchain.toml), Go 1.26 (for `make run` KUBEBUILDER_ASSETS will do), and a C compiler.

CARGO ?= cargo

.PHONY: run test check bench policies clean

## run: the main job on a real API server, told step by step; ends by itself
run: target/cluster.bin
	PODGRAFT_CLUSTER_BIN="$$(cat $<)" $(CARGO) test --quiet --test demo

## test: everything that CI runs
test: check target/cluster.bin
	PODGRAFT_CLUSTER_BIN="$$(cat target/cluster.bin)" $(CARGO) test --locked
	policies/build.sh --check

## check: formatting and lints
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

## bench: speed and memory as ratios in one run; the table is written to target/bench/
bench:
	tests/bench/run.sh

## policies: rebuild the committed modules, to the same bytes
policies:
	policies/build.sh

# The control plane's programs; the script keeps them by content, so it is asked every time.
.PHONY: target/cluster.bin
target/cluster.bin:
	@mkdir -p target
	@tests/cluster/build.sh > $@

clean:
	$(CARGO) clean
