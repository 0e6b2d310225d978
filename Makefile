# The verbs of the project. Each installs what it lacks (scripts/setup.sh), builds, and does one thing.
#   make demo      a node from nothing to a survived kill -9, step by step
#   make test      every test, with sanitizers too
#   make campaign  the long counts: crashes, simulation, fuzzing
#   make bench     our figures beside their limits
#   make fuzz      fuzzing without end; T=name picks a target
#   make fmt       layout; make install, make dist

BUILD ?= build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local

.PHONY: all demo test campaign bench fuzz fmt install dist setup clean

all: setup
	cmake --preset release
	cmake --build --preset release -j $(JOBS)

setup:
	@scripts/setup.sh

demo: all
	scripts/demo.sh $(BUILD)/release

test: setup
	scripts/test.sh

campaign: setup
	scripts/campaign.sh

bench: all
	scripts/bench.sh $(BUILD)/release

fuzz: setup
	scripts/fuzz.sh 0 $(T)

fmt: setup
	find include src cmd sdk apps examples tests bench -name '*.[ch]' | xargs clang-format-14 -i

install: all
	cmake --install $(BUILD)/release --prefix $(PREFIX)

dist: setup
	scripts/dist.sh

clean:
	rm -rf $(BUILD)
