"""A security key in software, for tests: CTAPHID packets in memory, under the real python-fido2 client.

Made from "Client to Authenticator Protocol (CTAP)" 2.1 of June 15, 2021; numbers in parentheses are its sections. Left
out because nothing here uses it: U2F, resident credentials, fingerprints, large blobs, reset, enterprise attestation.

key.py answers requests; pins.py has the PIN, pin_protocols.py its encryption; packets.py frames requests and answers;
port.py is where keys are plugged in.
"""
