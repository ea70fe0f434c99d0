#!/usr/bin/env bash
# Make sure that the Chromium is there that tests/demo starts: $CHROMIUM, else /usr/bin/chromium, for which the
# distribution's own package is installed. Playwright drives it; nothing comes from anywhere but the distribution.
set -euo pipefail

browser=${CHROMIUM:-/usr/bin/chromium}
if [ -x "$browser" ]; then
  exit 0
fi

if [ -n "${CHROMIUM:-}" ] || ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "The demo page is tested in Chromium, and there is no $browser. Install it with your package manager" >&2
  echo "(Debian and Ubuntu: sudo apt-get install chromium), or set CHROMIUM to the path of its program." >&2
  exit 1
fi

echo "Installing the distribution's chromium for the tests of the demo page"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends -y chromium fonts-dejavu-core >/dev/null
test -x "$browser"
