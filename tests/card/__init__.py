"""An OpenPGP 3.4 card in software, behind real pcscd, vpcd and scdaemon, for tests that need a card.

The fixture ``card_house`` (tests/conftest.py) is a ``House`` whose programs run in a namespace with a reader::

    def test_x(card_house: CardHouse) -> None:
        card = card_house.card                      # a new card: PIN 123456, admin PIN 12345678, no keys
        card_house.run("gpg", "--card-status")      # run, start, environ, phone, open ... are House's, but inside
        card_house.start(UNLATCH, "card", "unlock") # Popen: the program itself, signals reach it
        card_house.at_terminal(UNLATCH, ...)        # a Terminal (tests/terminal.py)

Programs get their own GNUPGHOME (gpg-agent.conf with pinentry-unlatch and ssh support; append to it before the first
command), an empty /run (no /run/user, no /run/unlatch), and loopback only. Root is needed.

What a test looks at: ``card.tries()`` -> Tries(pin, reset, admin); ``card.verified(0x82)`` (82 PIN, 81 PIN for
signing, 83 admin); ``card.wrong_pin_count()``; ``card.submitted("pin")``: values that came, right or wrong;
``card.record()``: every VERIFY with its result; ``card.signatures()``; ``card.application_id``: the serial number as
scdaemon writes it; ``card_house.reader.commands``: the first four bytes of every command.

What a test prepares: ``card.set_pin(b"...", tries=1)``, ``set_admin_pin``, ``set_resetting_code``, ``set_forcesig``;
``card.generate("auth", "ed25519")``: a key without gpg; ``Card(serial=7, extended=False)`` for another card;
``Card(tells_tries=True)``: a wrong PIN answers 63Cx; ``card.copy(serial=8)``.

The hand: ``card_house.reader.remove()``, ``.insert(card)``, ``.replug()`` return when pcscd has noticed (0.4 s),
``card_house.replug()`` when scdaemon has noticed too (0.5 s more; else it may go on believing in a verified PIN);
``.pull_at(SIGN_OR_DECIPHER)`` in mid-operation; ``.delay = 0.5``; ``.hold()`` and ``.release()``; ``card.power_on()``:
a reset by another program, or a bad contact, which neither pcscd nor scdaemon notices;
``card_house.second.insert(Card(2))``: a card in the second reader (``card_house.use_reader(None)`` lets scdaemon
choose); ``card_house.pcsc.stop()``: kill pcscd; ``card_house.pcsc.start(readers=False)``: no reader.

With keys: ``card.gnupg.provision(card_house, "rsa2048")`` before any other program has talked to the card gives a card
on which gpg made three keys ("rsa2048", "rsa3072", "rsa4096", "ed25519", "nistp256"), its certificate in the keyring,
locked again, in 0.1 s; ``encrypt(card_house)`` makes a file for it.

PIN tries: a test in which a try is spent has to announce it, by the program that will spend it::

    card.expect_wrong(1, by="unlatch card unlock")

A try that was not announced, or an announced one that was not spent, fails the test: see account.py.
"""
