"""What a person does from the command line beside serving: attachments, events, the levers of on-call."""
