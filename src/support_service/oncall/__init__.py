"""What is wrong with the service: the conditions of the alerts, judged by a replica on its own figures."""
