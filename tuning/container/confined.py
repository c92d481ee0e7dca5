#!/usr/bin/env python3
"""Runs a program under a seccomp profile of containers, as a container runtime would.

usage: confined.py [--without CALL,CALL…] PROFILE PROGRAM [ARGUMENT…]

Takes profiles without conditions, such as tuning/container/seccomp.json. Calls that this kernel's library does not know are
left out, as runtimes do. Needs the Debian package python3-seccomp.
"""
import json
import os
import sys

import seccomp

COMPARISONS = {
    "SCMP_CMP_NE": seccomp.NE,
    "SCMP_CMP_LT": seccomp.LT,
    "SCMP_CMP_LE": seccomp.LE,
    "SCMP_CMP_EQ": seccomp.EQ,
    "SCMP_CMP_GE": seccomp.GE,
    "SCMP_CMP_GT": seccomp.GT,
    "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ,
}


def action(name, errno):
    """An action of the profile as the library has it."""
    return {"SCMP_ACT_ALLOW": seccomp.ALLOW, "SCMP_ACT_ERRNO": seccomp.ERRNO(errno if errno is not None else 1)}[name]


def load(profile, without):
    """Puts this process under the profile, for good."""
    chosen = seccomp.SyscallFilter(action(profile["defaultAction"], profile.get("defaultErrnoRet")))
    chosen.set_attr(seccomp.Attr.CTL_NNP, 1)
    for rule in profile["syscalls"]:
        arguments = [
            seccomp.Arg(arg["index"], COMPARISONS[arg["op"]], arg["value"], arg.get("valueTwo", 0)) for arg in rule.get("args", [])
        ]
        for name in rule["names"]:
            if name in without or action(rule["action"], rule.get("errnoRet")) == action(profile["defaultAction"], profile.get("defaultErrnoRet")):
                continue
            if seccomp.resolve_syscall(seccomp.Arch(), name) < 0:
                continue
            chosen.add_rule(action(rule["action"], rule.get("errnoRet")), name, *arguments)
    # What a container runtime answers for io_uring is EPERM or ENOSYS; EPERM is the older and more common one.
    for name in without:
        chosen.add_rule(seccomp.ERRNO(1), name)
    chosen.load()


def main():
    arguments = sys.argv[1:]
    without = []
    if arguments[:1] == ["--without"]:
        without, arguments = arguments[1].split(","), arguments[2:]
    if len(arguments) < 2:
        sys.exit(__doc__)
    with open(arguments[0], encoding="utf-8") as file:
        load(json.load(file), without)
    os.execv(arguments[1], arguments[1:])


main()
