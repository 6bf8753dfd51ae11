"""Operations on the agent's resources: reservations and volumes, carried out and remembered."""
