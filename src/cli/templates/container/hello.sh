#!/bin/sh
# Greets whoever is named.

figlet "Hello $*"
echo "Hello $*, from Debian $(cat /etc/debian_version)."
