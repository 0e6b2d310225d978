#!/bin/sh
# A source archive of the committed tree.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^project(calimero VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
mkdir -p build
git archive --format=tar.gz --prefix="calimero-$version/" -o "build/calimero-$version.tar.gz" HEAD
echo "build/calimero-$version.tar.gz"
