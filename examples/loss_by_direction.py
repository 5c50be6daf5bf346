#!/usr/bin/env python3
"""Prints loss by direction for each window of `kstamp agent --format jsonl`: from a file, or from standard input."""

import fileinput
import json
import signal

HEADING = ("end", "peer", "path", "sent", "lost", "forward", "backward", "unknown")
ROW = "{:20}  {:12}  {:8} {:>6} {:>6} {:>8} {:>9} {:>8}"


def percent(part, whole):
    return f"{100 * part / whole:.2f}%" if whole else "-"


def main():
    print(ROW.format(*HEADING))
    for line in fileinput.input():
        record = json.loads(line)
        if record["type"] not in ("window", "summary"):
            continue
        sent = record["sent"]
        losses = (record[field] for field in ("lost_forward", "lost_backward", "lost_unknown"))
        end = "whole run" if record["type"] == "summary" else record["end"][:19] + "Z"
        print(
            ROW.format(end, record["peer"], record["path"], sent, record["lost"], *(percent(lost, sent) for lost in losses)),
            flush=True,
        )


if __name__ == "__main__":
    # End silently by Ctrl-C, and when the reader of the output ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
