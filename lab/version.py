"""The lab's version, told once: the wheel, the servers' cards and every session read it here."""

VERSION = "0.1.0"
