#!/usr/bin/env bash
# Make sure that a Chromium is there for the tests of the demo page: $CHROMIUM or one on PATH, else the
# distribution's own package. Playwright drives it; nothing is fetched from anywhere but the distribution.
set -euo pipefail

for browser in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
  if [ -n "$browser" ] && command -v "$browser" >/dev/null; then
    exit 0
  fi
done

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "The demo page is tested in Chromium, which is not installed. Install it with your package manager" >&2
  echo "(Debian and Ubuntu: sudo apt-get install chromium), or set CHROMIUM to its program." >&2
  exit 1
fi

echo "Installing the distribution's chromium for the tests of the demo page"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends -y chromium fonts-dejavu-core >/dev/null
