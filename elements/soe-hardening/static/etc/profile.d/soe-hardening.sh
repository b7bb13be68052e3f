# An idle login shell ends after ten minutes. Only bash knows typeset and TMOUT.
if [ -n "${BASH_VERSION:-}" ]; then
    typeset -xr TMOUT=600
fi
