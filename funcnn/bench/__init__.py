"""Measuring: exact figures of compiled programs, also for devices that are not here."""
