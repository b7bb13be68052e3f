#!/bin/bash
# Run a command as an ordinary user who may use sudo: as_user.sh HOME COMMAND [ARGUMENT ...]
# The user exists in this mount namespace only: /etc is covered by an overlay that goes when the namespace ends.
set -euo pipefail

home=$1
shift
cover=$(mktemp -d)
mount -t tmpfs tmpfs "$cover"
mkdir "$cover/upper" "$cover/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$cover/upper,workdir=$cover/work" /etc
echo "builder:x:4242:4242::$home:/bin/sh" >> /etc/passwd
echo "builder:x:4242:" >> /etc/group
echo "builder:*:20000:0:99999:7:::" >> /etc/shadow
echo "builder ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/builder
chmod 0440 /etc/sudoers.d/builder
install -d -o builder -g builder "$home"
exec setpriv --reuid 4242 --regid 4242 --clear-groups --pdeathsig KILL \
    env -i "HOME=$home" "PATH=/usr/bin:/bin" "IMAGEFACTORY_HOME=$home/factory" "$@"
