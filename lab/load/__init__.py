"""Load: many calls at once through a lean client of the lab's own, stamped at the socket and read
after each has ended. What is asked and when (profile, schedule, steering); the socket (wire, in the
process loader); what the bytes said, as rows (reading)."""
